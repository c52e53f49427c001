//! The state table as one table: RFC 9568 section 6.4 with Fault, every cell.

use super::*;
use crate::vrrp::check::Heard;
use crate::vrrp::instance::{Actions, Input};

const NOW: Instant = Instant::from_seconds(100);

/// A state to begin with, by letter.
fn begin(letter: char) -> Instance {
    let mut config = instance(100);
    config.version = Version::V3;
    if letter == 'O' {
        config.priority = 255;
    }
    let mut instance = Instance::new(config);
    instance.primary = Some(address("10.77.0.1"));
    instance.state = match letter {
        'I' | 'O' => State::Initialize,
        'B' => State::Backup { down: Some(NOW + seconds(3.0)), preempt: None },
        'N' => {
            instance.config.preempts = false;
            State::Backup { down: Some(NOW + seconds(3.0)), preempt: None }
        }
        'A' => State::Active { advert: NOW + seconds(1.0) },
        'F' => State::Fault,
        other => panic!("{other}"),
    };
    instance
}

fn input(text: &str) -> Input {
    let heard = |priority, source| {
        Input::Heard(Heard {
            source: address(source),
            priority,
            interval: seconds(1.0),
            sequence: None,
            has_old_checksum: false,
        })
    };
    match text {
        "start" => Input::Start { is_first: true },
        "down timer" => Input::DownTimer,
        "advert timer" => Input::AdvertTimer,
        "hear 0" => heard(0, OTHER),
        "hear lower" => heard(50, OTHER),
        "hear equal, lower address" => heard(100, "10.77.0.0"),
        "hear equal, higher address" => heard(100, OTHER),
        "hear higher" => heard(200, OTHER),
        "promote" => Input::Promote,
        "demote" => Input::Demote,
        "fail" => Input::Fail,
        "heal" => Input::Heal,
        "stop" => Input::Stop,
        other => panic!("{other}"),
    }
}

/// The state, its timer in milliseconds from now, and what was done: advertisements sent by priority, `+` and `-` for
/// addresses, `!` for announcements, words told.
fn end(mut instance: Instance, input: Input) -> String {
    let mut actions = Actions::new();
    instance.step(NOW, input, &mut actions);
    let mut text = match instance.state {
        State::Initialize => "I".to_owned(),
        State::Backup { down: Some(at), .. } => format!("B{}", (at - NOW).as_millis()),
        State::Backup { down: None, .. } => "B-".to_owned(),
        State::Active { advert } => format!("A{}", (advert - NOW).as_millis()),
        State::Fault => "F".to_owned(),
    };
    for action in actions {
        text += &match action {
            Action::SendAdvert { packet, header_octets, .. } => format!(" send{}", packet[header_octets + 2]),
            Action::AddAddresses { .. } => " +".to_owned(),
            Action::RemoveAddresses { .. } => " -".to_owned(),
            Action::Announce { .. } => " !".to_owned(),
            Action::Notify { word, .. } => format!(" {word}"),
            _ => continue,
        };
    }
    text
}

const STATES: [char; 6] = ['I', 'O', 'B', 'N', 'A', 'F'];

/// Columns: Initialize, Initialize of the owner, Backup (timer 3000 ms), Backup with Preempt_Mode false, Active, Fault.
/// Skew_Time is 609 ms and Active_Down_Interval 3609 ms.
#[rustfmt::skip]
const TABLE: [(&str, [&str; 6]); 13] = [
    ("start",         ["B3609 BACKUP", "B-", "B3000", "B3000", "A1000", "F"]),
    ("down timer",    ["I", "I", "B-", "B-", "A1000", "F"]),
    ("advert timer",  ["I", "I", "B3000", "B3000", "A2000 send100", "F"]),
    ("hear 0",        ["I", "I", "B609", "B609", "A1000 send100 !", "F"]),
    ("hear lower",    ["I", "I", "B3000", "B3609", "A1000 MASTER_RX_LOWER_PRI send100 !", "F"]),
    ("hear equal, lower address",
                      ["I", "I", "B3609", "B3609", "A1000 MASTER_RX_LOWER_PRI send100 !", "F"]),
    ("hear equal, higher address",
                      ["I", "I", "B3609", "B3609", "B3609 send100 - BACKUP", "F"]),
    ("hear higher",   ["I", "I", "B3609", "B3609", "B3609 send100 - BACKUP", "F"]),
    ("promote",       ["I", "I", "A1000 send100 + ! MASTER", "A1000 send100 + ! MASTER", "A1000", "F"]),
    ("demote",        ["I", "I", "B3000", "B3000", "B3609 send0 - BACKUP", "F"]),
    ("fail",          ["F FAULT", "F FAULT", "F FAULT", "F FAULT", "F send0 - FAULT", "F"]),
    ("heal",          ["I", "I", "B3000", "B3000", "A1000", "B3609 BACKUP"]),
    ("stop",          ["I", "I", "I STOP", "I STOP", "I send0 - STOP", "I STOP"]),
];

#[test]
fn every_cell_of_the_state_table() {
    for (text, cells) in TABLE {
        for (letter, cell) in STATES.into_iter().zip(cells) {
            assert_eq!(end(begin(letter), input(text)), cell, "{letter} {text}");
        }
    }
}
