//! Bytes, times and sizes as people read them.

use std::{fmt::Write as _, time::Duration};

use dhtctl::{id::short_hex, proto::Version};

/// Text as it is if it can stand in one cell of one line; otherwise with escapes like `\t` and `\xff`.
///
/// This is for looking at. `-o json` and `export` are exact.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(char::is_control)
    {
        return text.to_owned();
    }
    let mut escaped = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                c if c.is_control() => escaped.extend(c.escape_default()),
                c => escaped.push(c),
            }
        }
        for byte in chunk.invalid() {
            _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// `2 replicas`, `1 replica`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `340 us`, `1.25 ms`, `3.10 s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// `12s`, `3m20s`, `2h05m`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A time since the Unix epoch as RFC 3339 has it, in UTC.
pub(crate) fn timestamp(unix_ms: u64, with_ms: bool) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if with_ms { format!(".{ms:03}") } else { String::new() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Which write it is: a version in eventual mode, in chain mode a revision.
pub(crate) fn stamp(version: Option<&Version>, revision: u64) -> String {
    version.map_or_else(|| format!("revision {revision}"), |version| format!("version {}", self::version(version)))
}

/// A version as people compare it: when it was written, the counter, by whom.
pub(crate) fn version(version: &Version) -> String {
    let time = timestamp(version.clock >> 16, true);
    format!("{time}+{}/{}", version.clock & 0xffff, short_hex(&version.peer_id))
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar. Years are counted from March, so
/// that the leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_binary_is_escaped() {
        assert_eq!(escaped("grüße \\ {\"a\":1}".as_bytes()), "grüße \\ {\"a\":1}");
        assert_eq!(escaped(b"a\tb\\\n\xff\0"), "a\\tb\\\\\\n\\xff\\u{0}");
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(timestamp(0, true), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_399_999, true), "2000-02-28T23:59:59.999Z");
        assert_eq!(timestamp(951_782_400_000, false), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(4_107_542_400_000, false), "2100-03-01T00:00:00Z");
        // The largest clock of 48 bits.
        assert_eq!(timestamp((1 << 48) - 1, false), "10889-08-02T05:31:50Z");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!((size(1023), size(1536), size(5 << 40)), ("1023 B".into(), "1.5 KiB".into(), "5.0 TiB".into()));
        assert_eq!((micros(7), micros(1250)), ("7 us".into(), "1.25 ms".into()));
        assert_eq!(span(Duration::from_secs(200)), "3m20s");
    }
}
