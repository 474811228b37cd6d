//! Identifiers of the circle as a client meets them: bytes from the wire, and text for people.

pub use dht_core::ring::Id;

/// The identifier in `bytes`; none unless they are 20.
pub fn from_slice(bytes: &[u8]) -> Option<Id> {
    bytes.try_into().ok().map(Id::new)
}

/// The share of the circle in the clockwise interval (`from`, `to`]; all of it if they are the same.
pub fn share(from: Id, to: Id) -> f64 {
    if from == to { 1.0 } else { from.distance_to(to).as_fraction() }
}

/// `bytes` in hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The first eight hex digits of `bytes`, the short form of peer and node ids.
pub fn short_hex(bytes: &[u8]) -> String {
    hex(&bytes[..bytes.len().min(4)])
}

/// The bytes that `text` names in hex; none if it is not hex of an even length.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> Id {
        let mut bytes = [0; 20];
        bytes[0] = first;
        Id::new(bytes)
    }

    #[test]
    fn shares_of_consecutive_nodes_sum_to_the_circle() {
        let nodes = [id(3), id(64), id(200)];
        let total: f64 = (0..3).map(|i| share(nodes[(i + 2) % 3], nodes[i])).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert!((share(nodes[2], nodes[0]) - 59.0 / 256.0).abs() < 1e-12, "wraps around zero");
        assert!((share(id(7), id(7)) - 1.0).abs() < f64::EPSILON, "a single node has the whole circle");
    }

    #[test]
    fn hex_round_trips_and_refuses_other_text() {
        assert_eq!(from_hex(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(short_hex(&[1, 2]), "0102");
    }
}
