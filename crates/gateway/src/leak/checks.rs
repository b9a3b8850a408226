//! Checksums of credentials that have one.

use aedile_core::{Entropy, SecretString};
use zeroize::Zeroizing;

/// CRC-32 as in zip and Ethernet, bit by bit: the texts are short.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Whether the last six characters are the CRC-32 of the rest in base 62, padded with zeros: how GitHub and npm make theirs.
pub(super) fn crc62(random: &[u8]) -> bool {
    let Some((body, sum)) = random.split_last_chunk::<6>() else { return false };
    // Which letters come first is not published; both orders are taken.
    [base62(crc32(body), b'A', b'a'), base62(crc32(body), b'a', b'A')].contains(sum)
}

/// Six digits in base 62: numerals, then the letters that begin with `first`, then those that begin with `second`.
pub(super) fn base62(mut number: u32, first: u8, second: u8) -> [u8; 6] {
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        let digit = u8::try_from(number % 62).unwrap_or(0);
        *place = match digit {
            0..=9 => b'0' + digit,
            10..=35 => first + digit - 10,
            _ => second + digit - 36,
        };
        number /= 62;
    }
    text
}

const BECH32: &[u8] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

/// A token as GitHub makes them, with its checksum, that nobody gave out.
pub fn decoy(entropy: &dyn Entropy) -> SecretString {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut body = Zeroizing::new(Vec::with_capacity(30));
    let mut byte = [0_u8];
    while body.len() < 30 {
        entropy.fill(&mut byte);
        // Only as many of the 256 as 62 divides, or some letters would come more often.
        if byte[0] < 248 {
            body.push(LETTERS[usize::from(byte[0]) % LETTERS.len()]);
        }
    }
    let sum = base62(crc32(&body), b'A', b'a');
    SecretString::from(format!("ghp_{}{}", String::from_utf8_lossy(&body), String::from_utf8_lossy(&sum)))
}

/// One step of the checksum of bech32 (BIP 173).
fn bech32_step(sum: u32, value: u32) -> u32 {
    const FACTORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let top = sum >> 25;
    let rest = (sum & 0x01ff_ffff) << 5 ^ value;
    FACTORS.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(rest, |sum, (_, factor)| sum ^ factor)
}

/// The checksum's state after the human-readable part, in small letters, and the data.
fn bech32_sum(human: &[u8], data: impl Iterator<Item = u32>) -> u32 {
    let high = human.iter().map(|byte| u32::from(byte >> 5));
    let low = human.iter().map(|byte| u32::from(byte & 31));
    high.chain([0]).chain(low).chain(data).fold(1, bech32_step)
}

/// Whether the data of an age secret key, in capitals, has the right checksum.
pub(super) fn bech32_age(data: &[u8]) -> bool {
    let values: Option<Vec<u32>> =
        data.iter().map(|byte| BECH32.iter().position(|known| known == byte).and_then(|place| u32::try_from(place).ok())).collect();
    values.is_some_and(|values| bech32_sum(b"age-secret-key-", values.into_iter()) == 1)
}

/// Decodes base64 in either alphabet, with or without padding; stops at the first other character. At most `most` bytes.
pub(crate) fn base64(text: &[u8], most: usize) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
            if out.len() == most {
                break;
            }
        }
    }
    out
}

/// Decodes base64 in the standard alphabet with its padding; `None` when it is anything else.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let plain = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (text.len().is_multiple_of(4) && padding <= 2 && plain && body.len() % 4 != 1).then(|| base64(body.as_bytes(), usize::MAX))
}

#[cfg(test)]
pub(super) mod making {
    //! The other way round, for tests.

    /// Appends the checksum of bech32 to the data of an age secret key.
    pub(crate) fn with_bech32(data: &[u8]) -> Vec<u8> {
        let value = |byte: &u8| super::BECH32.iter().position(|known| known == byte).unwrap() as u32;
        let sum = super::bech32_sum(b"age-secret-key-", data.iter().map(value).chain([0; 6])) ^ 1;
        let tail = (0..6).map(|place| super::BECH32[(sum >> (5 * (5 - place)) & 31) as usize]);
        data.iter().copied().chain(tail).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoy_is_a_token_of_the_form_and_never_the_same() {
        use aedile_core::ExposeSecret;
        let entropy = aedile_core::SeededEntropy::new(5);
        let (one, two) = (super::decoy(&entropy), super::decoy(&entropy));
        assert_ne!(one.expose_secret(), two.expose_secret());
        let body = one.expose_secret().strip_prefix("ghp_").unwrap();
        assert!(body.len() == 36 && crc62(body.as_bytes()), "{body}");
    }

    #[test]
    fn checksums_are_those_of_the_formats() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(&base62(61, b'A', b'a'), b"00000z");
        let body = b"q8Zt2LmP0vRx7KdWb3NcY5HsJf6GuE";
        let token: Vec<u8> = body.iter().copied().chain(base62(crc32(body), b'A', b'a')).collect();
        assert!(crc62(&token) && !crc62(&[&token[..35], b"!"].concat()));
        assert!(bech32_age(&making::with_bech32(&[b'Q'; 52])) && !bech32_age(&[b'Q'; 58]));
        assert_eq!(base64(b"aGVsbG8gd29ybGQ=", 100), b"hello world");
        assert_eq!(decode_base64("aGVsbG8gd29ybGQ=").unwrap(), b"hello world");
        assert!(["aGVs bG8=", "aGVsbG8", "====", "aGVsbG8-"].iter().all(|bad| decode_base64(bad).is_none()) && decode_base64("").is_some());
    }
}
