//! The kernel's refusals in ipvsadm's words.

use crate::command::request::{Refusal, Request};

/// What ipvsadm prints when the kernel refuses `request`, without the line feed.
pub fn text(request: &Request, refusal: &Refusal) -> String {
    let of_command = match (refusal, request) {
        (Refusal::Exists, Request::AddService(_)) => Some("Service already exists"),
        (Refusal::Exists, Request::AddServer { .. }) => Some("Destination already exists"),
        (Refusal::Exists, Request::StartDaemon(_)) => Some("Daemon has already run"),
        (Refusal::NotFound, Request::AddService(_) | Request::EditService(_)) => {
            Some("Scheduler or persistence engine not found")
        }
        (Refusal::NotFound, Request::EditServer { .. } | Request::DeleteServer { .. }) => Some("No such destination"),
        (
            Refusal::NoService,
            Request::EditService(_) | Request::DeleteService(_) | Request::Zero(_) | Request::Services(_),
        ) => Some("No such service"),
        (
            Refusal::NoService,
            Request::AddServer { .. } | Request::EditServer { .. } | Request::DeleteServer { .. },
        ) => Some("Service not defined"),
        (Refusal::NoService, Request::StopDaemon(_)) => Some("No daemon is running"),
        _ => None,
    };
    of_command.unwrap_or_else(|| of_errno(refusal)).to_owned()
}

/// The texts that do not depend on the command; those of `strerror` where ipvsadm has none of its own.
fn of_errno(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::Exists => "File exists",
        Refusal::NotFound => "No such file or directory",
        Refusal::NoService => "No such process",
        Refusal::Invalid => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        Refusal::Range => "Numerical result out of range",
        Refusal::NoMemory => "Memory allocation problem",
        Refusal::Family => "Operation not supported with specified address family",
        Refusal::NoDevice => "No such device",
        Refusal::NotPermitted => "Permission denied (you must be root)",
        // Nothing of ipvsadm's: what the director cannot do yet, it says itself.
        Refusal::NotSupported(sentence) => sentence,
    }
}
