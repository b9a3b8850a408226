//! Credentials that vendors and standards print in their own texts, by hash: nobody's, and in every copy of those texts.

/// FNV-1a, 64 bits, sorted.
static PUBLISHED: &[u64] = &[
    0x0ab5_0e41_2ab9_81a4,
    0x105e_4dd7_63a8_12bc,
    0x1a7b_78be_56f3_054d,
    0x273f_5e02_3867_ba98,
    0x30aa_8188_bb02_3e35,
    0x394b_1256_cc3a_4c19,
    0x3c0d_8e9d_b0e6_bea8,
    0x3e6e_0ba1_e1bb_8300,
    0x3f9d_1c99_6e62_0b67,
    0x43f6_2e8b_cdd8_4601,
    0x4a93_baaa_b190_2fcb,
    0x55e6_407f_d6ee_a643,
    0x6569_5ee5_90bf_2437,
    0x67e7_33c2_f903_5757,
    0x6a8c_d541_79ee_73cf,
    0x6acb_d824_bd32_bbd4,
    0x846b_2a1e_2fad_7fcb,
    0x8f63_5ee3_a1e6_f45d,
    0x9687_7485_4338_6f6c,
    0x9cba_2b6f_12fd_10a4,
    0x9f19_20c6_cd48_4714,
    0x9fec_ef63_1639_2406,
    0xbb65_956c_4b8b_34bf,
    0xc358_cb21_c35a_1b3d,
    0xcb16_0c5e_bf07_2178,
    0xd0d3_3a84_5e6f_df8c,
    0xd7ba_480f_b3bb_167e,
    0xd9ad_86ad_3724_159b,
    0xdb9b_ede1_a832_88bb,
    0xdb9d_9a01_5ca5_096c,
    0xdc8d_8ca0_6454_72e9,
    0xddd1_9c48_6d09_5d84,
    0xe49c_640a_a227_dc2f,
    0xe997_0869_85b9_9cf7,
    0xecc1_a447_4851_bc28,
    0xeec6_4aaf_18b9_5b18,
    0xf1fe_683d_1891_6b64,
    0xf6ca_d54e_10eb_31ac,
    0xf9a5_c07a_9fe2_5756,
];

/// Whether the credential is one of those.
pub(super) fn is_published(bytes: &[u8]) -> bool {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    PUBLISHED.binary_search(&hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_knows_the_example_of_the_oauth_standard() {
        assert!(PUBLISHED.is_sorted());
        assert!(is_published(b"2YotnFZFEjr1zCsicMWpAA") && !is_published(b"2YotnFZFEjr1zCsicMWpAB"));
    }
}
