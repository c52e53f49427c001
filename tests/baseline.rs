//! What `bench/forward --instructions` says of counts, and that the recorded ones can be read.

#[path = "../bench/forward/baseline.rs"]
mod baseline;

use baseline::{Baseline, Judgement};

fn recorded() -> Baseline {
    let mut baseline = Baseline::new("rustc 1.95.0", "x86_64-unknown-linux-gnu");
    baseline.add("dr", 1000, 600.04);
    baseline.add("nat", 1000, 500.0);
    baseline
}

#[test]
fn a_count_is_judged_by_two_percent() {
    let baseline = recorded();
    for (instructions, expected) in [
        (600.0, Judgement::Same),
        (611.9, Judgement::Same),
        (588.1, Judgement::Same),
        (615.0, Judgement::Above(2.5)),
        (570.0, Judgement::Below(5.0)),
    ] {
        let judgement = baseline.judge("dr", 1000, instructions);
        match (judgement, expected) {
            (Judgement::Above(percent), Judgement::Above(expected))
            | (Judgement::Below(percent), Judgement::Below(expected)) => assert!((percent - expected).abs() < 1e-6),
            _ => assert_eq!(judgement, expected, "{instructions}"),
        }
        assert_eq!(judgement.is_failure(), instructions > 612.0);
    }
}

#[test]
fn a_case_without_a_baseline_fails() {
    for (case, flows) in [("dr", 1), ("new", 1000)] {
        let judgement = recorded().judge(case, flows, 1.0);
        assert_eq!(judgement, Judgement::Missing);
        assert!(judgement.is_failure());
    }
}

#[test]
fn counts_of_another_compiler_or_target_are_foreign() {
    let baseline = recorded();
    assert_eq!(baseline.foreign_to("rustc 1.95.0", "x86_64-unknown-linux-gnu"), None);
    let reason = baseline.foreign_to("rustc 1.96.0", "x86_64-unknown-linux-gnu").unwrap();
    assert!(reason.contains("rustc 1.95.0") && reason.contains("rustc 1.96.0"), "{reason}");
    let reason = baseline.foreign_to("rustc 1.95.0", "aarch64-unknown-linux-gnu").unwrap();
    assert!(reason.contains("x86_64") && reason.contains("aarch64"), "{reason}");
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let baseline = recorded();
    assert_eq!(baseline.find("dr", 1000), Some(600.0), "one decimal");
    assert_eq!(Baseline::parse(&baseline.render()).unwrap(), baseline);
    assert!(Baseline::parse("[]").is_err());
}

#[test]
fn the_recorded_counts_can_be_read() {
    let baseline = Baseline::parse(include_str!("../bench/instructions.json")).unwrap();
    assert!(baseline.rustc.starts_with("rustc "));
    assert!(!baseline.counts.is_empty());
    assert!(baseline.counts.iter().all(|count| count.instructions_per_packet > 0.0));
}
