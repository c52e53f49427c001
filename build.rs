//! Compiles the BPF programs in `bpf/` with clang; `host` embeds the objects. Names the compiler, for `bench/forward`,
//! whose counts of instructions compare for one compiler only.

use std::path::Path;
use std::process::Command;

/// Directories below /usr/include where Debian keeps the headers of an architecture (`asm/types.h`).
const MULTIARCH: [&str; 5] =
    ["x86_64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu", "powerpc64le-linux-gnu", "s390x-linux-gnu"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for name in ["lvx", "pass"] {
        let source = format!("bpf/{name}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        if let Err(reason) = compile(&source, &format!("{out}/{name}.bpf.o")) {
            println!("cargo::error={reason}");
        }
    }
    name_compiler();
}

/// What `env!` finds: the version line of rustc, and the triple that it compiles for.
fn name_compiler() {
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    println!("cargo::rustc-env=LVX_RUSTC={}", String::from_utf8_lossy(&output.stdout).trim());
    println!("cargo::rustc-env=LVX_TARGET={}", std::env::var("TARGET").expect("cargo sets TARGET"));
}

fn compile(source: &str, object: &str) -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_string());
    let mut command = Command::new(&clang);
    command.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c", source, "-o", object]);
    // clang knows no architecture's headers when it compiles for BPF. Those of the machine that builds will do:
    // the types used are the same everywhere.
    let machine = std::env::consts::ARCH;
    for triplet in MULTIARCH.iter().filter(|triplet| triplet.starts_with(machine)) {
        command.arg(format!("-I/usr/include/{triplet}"));
    }
    let output = command.output().map_err(|error| {
        format!("cannot run {clang}: {error}; the BPF programs need clang (Debian: apt-get install clang)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for (header, package) in [
        ("bpf/bpf_helpers.h", "libbpf-dev"),
        ("bpf/bpf_endian.h", "libbpf-dev"),
        ("linux/", "linux-libc-dev"),
        ("asm/", "linux-libc-dev"),
    ] {
        if text.contains(&format!("'{header}")) && text.contains("file not found") {
            return Err(format!("a header of {source} is missing (Debian: apt-get install {package})"));
        }
    }
    // cargo takes one line for an error.
    print_lines(&text);
    let exists = if Path::new(source).exists() { "does not compile" } else { "is missing" };
    Err(format!("{source} {exists}"))
}

fn print_lines(text: &str) {
    for line in text.lines() {
        println!("cargo::warning={line}");
    }
}
