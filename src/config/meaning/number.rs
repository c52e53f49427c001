//! Numbers, in keepalived's words where they are none.

use crate::base::Duration;
use crate::config::blocks::Value;
use crate::config::meaning::Context;

/// The longest time that most keywords take, microseconds.
pub const LONGEST_US: u64 = 4_294_967_295;

impl Context<'_> {
    /// A whole number that is not negative, within both bounds.
    pub fn unsigned(&mut self, value: &Value<'_>, least: u32, most: u32) -> Option<u32> {
        let text = value.text;
        if text.starts_with('-') {
            self.messages.flaw_at(value.at.clone(), format!("negative number '{text}'"));
            return None;
        }
        let digits = text.strip_prefix('+').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.messages.flaw_at(value.at.clone(), format!("invalid number '{text}'"));
            return None;
        }
        let Ok(number) = digits.parse::<u32>() else {
            self.messages.flaw_at(value.at.clone(), format!("number '{text}' outside unsigned integer range"));
            return None;
        };
        let is_within = (least..=most).contains(&number);
        if !is_within {
            self.messages.flaw_at(value.at.clone(), format!("number '{text}' outside range [{least}, {most}]"));
        }
        is_within.then_some(number)
    }

    /// A whole number within both bounds.
    pub fn signed(&mut self, value: &Value<'_>, least: i32, most: i32) -> Option<i32> {
        let text = value.text;
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.messages.flaw_at(value.at.clone(), format!("invalid number '{text}'"));
            return None;
        }
        let Ok(number) = text.parse::<i32>() else {
            self.messages.flaw_at(value.at.clone(), format!("number '{text}' outside integer range"));
            return None;
        };
        let is_within = (least..=most).contains(&number);
        if !is_within {
            self.messages.flaw_at(value.at.clone(), format!("number '{text}' outside range [{least}, {most}]"));
        }
        is_within.then_some(number)
    }

    /// Seconds with up to six decimals, bounds in microseconds.
    pub fn seconds(&mut self, value: &Value<'_>, least_us: u64, most_us: u64) -> Option<Duration> {
        self.decimal(value, least_us, most_us, 6).map(Duration::from_micros)
    }

    /// Milliseconds with up to three decimals, bounds in microseconds.
    pub fn milliseconds(&mut self, value: &Value<'_>, least_us: u64, most_us: u64) -> Option<Duration> {
        self.decimal(value, least_us, most_us, 3).map(Duration::from_micros)
    }

    /// A number with decimals, as a count of the last of them.
    fn decimal(&mut self, value: &Value<'_>, least: u64, most: u64, decimals: usize) -> Option<u64> {
        let text = value.text;
        if text.starts_with('-') {
            self.messages.flaw_at(value.at.clone(), format!("negative number '{text}'"));
            return None;
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let whole = whole.strip_prefix('+').unwrap_or(whole);
        if whole.is_empty() && fraction.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            self.messages.flaw_at(value.at.clone(), format!("invalid number '{text}'"));
            return None;
        }
        let unit = 10u64.pow(decimals as u32);
        let padded: String = fraction.chars().chain(std::iter::repeat('0')).take(decimals).collect();
        let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
        let count = whole.and_then(|whole| whole.checked_mul(unit)?.checked_add(padded.parse().ok()?));
        let count = count.filter(|count| (least..=most).contains(count));
        if count.is_none() {
            let bound = |count: u64| format!("{}.{:0decimals$}", count / unit, count % unit);
            let text = format!("number '{text}' outside range [{}, {}]", bound(least), bound(most));
            self.messages.flaw_at(value.at.clone(), text);
        }
        count
    }
}
