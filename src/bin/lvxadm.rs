//! ipvsadm's words for the running director; named or linked as `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore` it is
//! those.

use std::path::PathBuf;
use std::process::ExitCode;

use lvx::host::client;
use lvx::host::names::SystemNames;
use lvx::host::options::{SOCKET_DEFAULT, SOCKET_VARIABLE};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let named = take_socket(&mut arguments);
    let socket = named.or_else(|| std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from));
    let socket = socket.unwrap_or_else(|| PathBuf::from(SOCKET_DEFAULT));
    match client::lvxadm(&socket, &arguments, &SystemNames::default()) {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            eprintln!("lvxadm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes `--socket PATH` or `--socket=PATH` from the front, the one word that ipvsadm does not know.
fn take_socket(arguments: &mut Vec<String>) -> Option<PathBuf> {
    let first = arguments.get(1)?;
    if let Some(path) = first.strip_prefix("--socket=") {
        let path = PathBuf::from(path);
        arguments.remove(1);
        return Some(path);
    }
    if first == "--socket" && arguments.len() > 2 {
        let path = PathBuf::from(arguments.remove(2));
        arguments.remove(1);
        return Some(path);
    }
    None
}
