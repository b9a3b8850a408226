//! Which pairs of letters are common in words: counted over the distinct words of program sources and English documentation; the pairs that
//! make up 88 % of all neighbours are set.

/// For each first letter a bit for each second one.
static COMMON: [u32; 26] = [
    0x13e_bd6e, 0x014_4911, 0x01e_4d95, 0x016_4919, 0x1ef_b97f, 0x01a_4931, 0x016_2190, 0x008_4111, 0x22e_f87f, 0x000_0000, 0x000_0110,
    0x11c_4919, 0x014_d113, 0x03c_6d7d, 0x07e_f96e, 0x11e_c911, 0x010_0000, 0x13e_7d5d, 0x11c_c195, 0x11e_c995, 0x00e_b95f, 0x000_0111,
    0x002_6191, 0x008_8000, 0x004_8000, 0x000_0010,
];

/// Whether the pair is common. Both must be small letters; anything else is not.
pub(super) fn is_common(one: u8, other: u8) -> bool {
    let place = |letter: u8| letter.checked_sub(b'a').filter(|place| *place < 26);
    match (place(one), place(other)) {
        (Some(one), Some(other)) => COMMON[usize::from(one)] >> other & 1 == 1,
        _ => false,
    }
}
