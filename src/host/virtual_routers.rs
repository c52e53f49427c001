//! From keepalived.conf to the VRRP thread: read at the start and at SIGHUP.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use crate::config::{self, Configuration, Invocation, Severity};
use crate::host::clock::Clock;
use crate::host::machine::Machine;
use crate::host::options::{ExitStatus, StartError};
use crate::host::state::State;
use crate::host::vrrp::dump::Kind;
use crate::host::vrrp::{Plan, VrrpThread, run_script};

/// Reads a configuration.
///
/// # Errors
/// What is wrong with it; nothing has happened then.
pub fn read(invocation: &Invocation) -> Result<Plan, StartError> {
    plan_of(invocation).map_err(|texts| StartError::new(ExitStatus::Rules, texts.join("\n")))
}

fn plan_of(invocation: &Invocation) -> Result<Plan, Vec<String>> {
    let configuration = configuration_of(invocation)?;
    let (plan, messages) = Plan::new(configuration)?;
    for message in messages {
        tracing::warn!("{message}");
    }
    Ok(plan)
}

/// What the file says; all that is to be said of it goes to the log. Errors are no hindrance unless keepalived would not
/// start with them either.
fn configuration_of(invocation: &Invocation) -> Result<Configuration, Vec<String>> {
    let reading = config::read(&Machine::now(), invocation);
    for message in &reading.messages {
        let text = message.in_line();
        match message.severity {
            Severity::Notice => tracing::info!("{text}"),
            Severity::Flawed | Severity::Insecure => tracing::warn!("{text}"),
            Severity::Fatal => tracing::error!("{text}"),
        }
    }
    if reading.is_usable() {
        return Ok(reading.configuration);
    }
    Err(vec![format!("{}: nothing can run with this configuration (lvxd -t says why)", invocation.file)])
}

/// Starts the virtual routers, once `startup_script` has ended or has had its time.
///
/// # Errors
/// When sockets or threads cannot be had.
pub async fn start(plan: Plan, clock: Clock) -> Result<VrrpThread, StartError> {
    if let Some((script, timeout)) = &plan.configuration().global.startup
        && !run_script(script, *timeout).await
    {
        tracing::warn!("startup_script {script} has not ended well");
    }
    let alerts = Box::new(|_| {});
    VrrpThread::start(plan, clock, alerts).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ExitStatus::Rights,
            _ => ExitStatus::Other,
        };
        StartError::new(exit, format!("VRRP: {error}"))
    })
}

/// Ends the virtual routers, then runs `shutdown_script`.
pub async fn stop(vrrp: VrrpThread) {
    let configuration = vrrp.configuration();
    drop(vrrp);
    if let Some((script, timeout)) = &configuration.global.shutdown
        && !run_script(script, *timeout).await
    {
        tracing::warn!("shutdown_script {script} has not ended well");
    }
}

/// Writes one of keepalived's files, by a temporary one beside it, so that nobody reads half of it.
pub fn dump(kind: Kind, state: &Rc<RefCell<State>>, clock: Clock) {
    let state = Rc::clone(state);
    tokio::task::spawn_local(async move {
        let (mut instances, mut from) = (Vec::new(), Some(0));
        while let Some(position) = from {
            let Some(answer) = state.borrow().vrrp().map(|vrrp| vrrp.copies(position)) else { return };
            let Ok((some, next)) = answer.await else { return };
            instances.extend(some);
            from = next;
        }
        let text = kind.render(&instances, clock.now(), clock.wall());
        let path = kind.path();
        if let Err(error) = write_private(&path, &text) {
            tracing::warn!("{path}: {error}");
        }
    });
}

/// A file that nobody else may read: there are passwords in it. Whatever stands at its place is replaced, not followed.
fn write_private(path: &str, text: &str) -> std::io::Result<()> {
    let temporary = format!("{path}.{}", std::process::id());
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let result = options.and_then(|mut file| file.write_all(text.as_bytes()));
    match result {
        Ok(()) => std::fs::rename(&temporary, path),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Reads the configuration anew; one that is refused changes nothing.
pub fn reload(invocation: Option<&Invocation>, state: &Rc<RefCell<State>>) {
    let Some(invocation) = invocation else { return };
    tracing::info!("reloading {}", invocation.file);
    let plan = match plan_of(invocation) {
        Ok(plan) => plan,
        Err(texts) => {
            texts.iter().for_each(|text| tracing::error!("{text}"));
            tracing::error!("the configuration is refused, the old one goes on");
            return;
        }
    };
    let configuration = plan.configuration().clone();
    let Some(answer) = state.borrow().vrrp().map(|vrrp| vrrp.reload(plan)) else { return };
    let state = Rc::clone(state);
    tokio::task::spawn_local(async move {
        match answer.await {
            Ok(Ok(())) => {
                tracing::info!("reloaded");
                if let Some(vrrp) = state.borrow().vrrp() {
                    vrrp.set_configuration(configuration);
                }
            }
            Ok(Err(texts)) => texts.iter().for_each(|text| tracing::error!("{text}")),
            Err(_) => {}
        }
    });
}
