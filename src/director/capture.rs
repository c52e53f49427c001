//! A capture through a replay: packets in by their own clock, packets out with the time at which they left.

use std::io::{Read, Write};

use crate::base::{Duration, Instant};
use crate::director::replay::{Replay, ReplayError, Sent};
use crate::forward::Verdict;
use crate::wire::pcapng::{Reader, Writer};

/// What a replay of a capture came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Packets read.
    pub packets: u64,
    /// Packets that were transmitted, changed or not.
    pub transmitted: u64,
    /// Packets that are the host's.
    pub passed: u64,
    /// Packets that wait for more fragments.
    pub held: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Packets cut short by the capture, which no director can forward.
    pub truncated: u64,
}

/// Runs every packet of `input` through the replay and writes what leaves to `output`.
///
/// Time starts with the first packet and never runs backwards: a packet that is earlier than its predecessor comes at
/// the predecessor's time.
///
/// # Errors
/// When a file cannot be read or written, or the capture names an interface that the director does not have.
pub fn run(replay: &mut Replay, input: impl Read, output: impl Write) -> Result<Summary, ReplayError> {
    let other = |text: String| ReplayError::Other(text);
    let write_error = |error: std::io::Error| ReplayError::Other(format!("output capture: {error}"));
    let mut reader = Reader::new(input);
    let mut writer = Writer::new(output).map_err(write_error)?;
    let interfaces = replay.interfaces().to_vec();
    for name in &interfaces {
        writer.interface(name).map_err(write_error)?;
    }
    let mut summary = Summary::default();
    let mut epoch_ns = None;
    while let Some(packet) = reader.next_packet().map_err(|error| other(error.to_string()))? {
        summary.packets += 1;
        let first_ns = *epoch_ns.get_or_insert(packet.timestamp_ns.unwrap_or(0));
        let since_start = packet.timestamp_ns.map_or(0, |at| at.saturating_sub(first_ns));
        let at = (Instant::START + Duration::from_nanos(since_start)).max(replay.now());
        write_sent(&mut writer, &interfaces, first_ns, replay.advance_to(at), at).map_err(write_error)?;
        if (packet.bytes.len() as u64) < u64::from(packet.original_octets) {
            summary.truncated += 1;
            continue;
        }
        let name = &reader.interfaces()[packet.interface].name;
        let (verdict, sent) = replay.receive(name, &packet.bytes)?;
        match verdict {
            Verdict::Transmit(_) => summary.transmitted += 1,
            Verdict::Pass => summary.passed += 1,
            Verdict::Hold => summary.held += 1,
            Verdict::Drop(_) => summary.dropped += 1,
        }
        write_sent(&mut writer, &interfaces, first_ns, sent, at).map_err(write_error)?;
    }
    writer.flush().map_err(write_error)?;
    Ok(summary)
}

fn write_sent(
    writer: &mut Writer<impl Write>,
    interfaces: &[String],
    first_ns: u64,
    sent: Vec<Sent>,
    at: Instant,
) -> std::io::Result<()> {
    for sent in sent {
        let number = interfaces.iter().position(|name| *name == sent.interface).unwrap_or_default();
        writer.packet(number as u32, first_ns + at.nanoseconds(), &sent.frame)?;
    }
    Ok(())
}
