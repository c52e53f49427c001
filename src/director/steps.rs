//! The steps of `lvx replay --steps`: one JSON object a line in, one a line out.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::base::{Duration, hex};
use crate::director::replay::{Replay, ReplayError, Sent};
use crate::forward::trace;

/// Octets of one line; the longest step is a restore file as standard input.
pub const STEP_OCTETS_MAX: usize = 64 << 20;

/// One line in.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Step {
    cmd: Option<Vec<String>>,
    stdin: Option<String>,
    #[serde(rename = "in")]
    interface: Option<String>,
    hex: Option<String>,
    advance: Option<f64>,
    sysctl: Option<(String, String)>,
    net: Option<String>,
    sync: Option<String>,
}

/// What left.
#[derive(Serialize)]
#[serde(untagged)]
enum OutFrame {
    Frame { dev: String, hex: String },
    Sync { sync: String, group: String, port: u16, ttl: u8 },
}

/// One line out.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Command {
        exit: i32,
        stdout: String,
        stderr: String,
    },
    Packet {
        verdict: String,
        out: Vec<OutFrame>,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<Vec<trace::Step>>,
    },
    Out {
        out: Vec<OutFrame>,
    },
    Exit {
        exit: i32,
    },
    Error {
        error: String,
    },
}

/// Runs steps until the input ends; each answer is flushed. With `tells`, each packet's answer has the steps of its way,
/// told before it went it.
///
/// # Errors
/// When input or output fails; a step that is not understood is answered with `{"error": …}`.
pub fn run(replay: &mut Replay, tells: bool, mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if io::Read::take(&mut input, STEP_OCTETS_MAX as u64).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<Step>(&line) {
            Ok(step) => {
                run_step(replay, tells, step).unwrap_or_else(|error| Answer::Error { error: error.to_string() })
            }
            Err(error) => Answer::Error { error: format!("not a step: {error}") },
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
}

fn run_step(replay: &mut Replay, tells: bool, step: Step) -> Result<Answer, ReplayError> {
    match step {
        Step { cmd: Some(words), stdin, .. } => {
            let output = replay.command(&words, stdin.as_deref())?;
            Ok(Answer::Command { exit: output.exit, stdout: output.stdout, stderr: output.stderr })
        }
        Step { interface: Some(interface), hex: Some(hex), .. } => {
            let frame = hex::decode(&hex).ok_or_else(|| ReplayError::Other("hex is not hexadecimal".into()))?;
            let (verdict, sent, trace) = match tells {
                true => {
                    let (verdict, sent, steps) = replay.receive_foretold(&interface, &frame)?;
                    (verdict, sent, Some(steps))
                }
                false => {
                    let (verdict, sent) = replay.receive(&interface, &frame)?;
                    (verdict, sent, None)
                }
            };
            Ok(Answer::Packet { verdict: verdict.to_string(), out: out_frames(replay, sent), trace })
        }
        Step { advance: Some(seconds), .. } => {
            let duration = Duration::try_from_secs_f64(seconds)
                .map_err(|_| ReplayError::Other(format!("{seconds} is no number of seconds")))?;
            let sent = replay.advance(duration);
            Ok(Answer::Out { out: out_frames(replay, sent) })
        }
        Step { sysctl: Some((name, value)), .. } => {
            let exit = if replay.set_sysctl(&name, &value).is_ok() { 0 } else { 255 };
            Ok(Answer::Exit { exit })
        }
        Step { net: Some(line), .. } => {
            replay.change_net(&line)?;
            Ok(Answer::Exit { exit: 0 })
        }
        Step { sync: Some(hex), .. } => {
            let datagram = hex::decode(&hex).ok_or_else(|| ReplayError::Other("sync is not hexadecimal".into()))?;
            replay.receive_sync(&datagram);
            Ok(Answer::Out { out: out_frames(replay, Vec::new()) })
        }
        _ => Err(ReplayError::Other("a step needs cmd, in and hex, advance, sysctl, net or sync".into())),
    }
}

fn out_frames(replay: &mut Replay, sent: Vec<Sent>) -> Vec<OutFrame> {
    let frames = sent.into_iter().map(|sent| OutFrame::Frame { dev: sent.interface, hex: hex::encode(&sent.frame) });
    let datagrams = replay.take_sync_sent().into_iter().map(|sent| OutFrame::Sync {
        sync: hex::encode(&sent.datagram),
        group: sent.group.to_string(),
        port: sent.port,
        ttl: sent.ttl,
    });
    frames.chain(datagrams).collect()
}
