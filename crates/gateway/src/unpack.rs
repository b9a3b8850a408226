//! Bodies without their packing.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

/// How a body is packed, as `Content-Encoding` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Reads the header's value; `Ok(None)` is not packed, `Err` names what is not known.
    pub(crate) fn parse(value: &str) -> Result<Option<Self>, String> {
        Ok(Some(match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            other => return Err(other.to_owned()),
        }))
    }

    /// Reads what is packed. The packings' own windows are the only memory that is used: at most 128 MiB for zstd, less for the others.
    pub(crate) fn unpack<'a>(self, packed: impl Read + 'a) -> Box<dyn Read + 'a> {
        let mut packed = BufReader::new(packed);
        match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(packed, 4096)),
            Self::Zstd => Box::new(Frames::Between(packed)),
            // Some send it with the frame of zlib, as the standard wants it, and some without.
            Self::Deflate => match packed.fill_buf().map(|begin| begin.first().is_some_and(|byte| byte & 0x0f == 8)) {
                Ok(true) => Box::new(Alone { within: ZlibDecoder::new(packed), rest: |within| within.get_mut() }),
                Ok(false) => Box::new(Alone { within: DeflateDecoder::new(packed), rest: |within| within.get_mut() }),
                Err(error) => Box::new(Failed(Some(error))),
            },
        }
    }
}

/// A packing behind whose end nothing may stand: what is there another reader might take for the body.
struct Alone<D, R> {
    within: D,
    rest: fn(&mut D) -> &mut BufReader<R>,
}

impl<D: Read, R: Read> Read for Alone<D, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.within.read(out)?;
        if read == 0 && !out.is_empty() && !(self.rest)(&mut self.within).fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something stands behind the end of the packing"));
        }
        Ok(read)
    }
}

struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// zstd: frame after frame, as every other reader of it reads on.
enum Frames<R: Read> {
    Between(BufReader<R>),
    Within(Box<StreamingDecoder<BufReader<R>, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Between(mut packed) => {
                    if packed.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(packed).map_err(io::Error::other)?;
                    *self = Self::Within(Box::new(frame));
                }
                Self::Within(mut frame) => {
                    let read = frame.read(out)?;
                    if read > 0 {
                        *self = Self::Within(frame);
                        return Ok(read);
                    }
                    *self = Self::Between(frame.into_inner());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpacked(coding: &str, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Coding::parse(coding).unwrap().unwrap().unpack(packed).take(1024 * 1024).read_to_end(&mut out)?;
        Ok(out)
    }

    /// A zstd frame that holds the text as it is.
    fn zstd(text: &[u8]) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        let block = (u32::from(length) << 3) | 1;
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length][..], &block.to_le_bytes()[..3], text].concat()
    }

    #[test]
    fn each_packing_is_read_whole() {
        let text = b"what is packed";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(unpacked("gzip", &gzip).unwrap(), text);
        assert_eq!(unpacked("X-Gzip", &[gzip.clone(), gzip].concat()).unwrap(), [text, &text[..]].concat());
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(text).unwrap();
        assert_eq!(unpacked("deflate", &zlib.finish().unwrap()).unwrap(), text);
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(text).unwrap();
        assert_eq!(unpacked("deflate", &bare.finish().unwrap()).unwrap(), text);
        // A brotli stream of one block that is not compressed.
        let brotli = [&[0x8b, 0x06, 0x80][..], text, &[0x03]].concat();
        assert_eq!(unpacked("br", &brotli).unwrap(), text);
        assert_eq!(unpacked("zstd", &zstd(text)).unwrap(), text);
        assert_eq!(unpacked("zstd", &[zstd(b"one, "), zstd(text)].concat()).unwrap(), b"one, what is packed");
    }

    #[test]
    fn what_is_not_packed_so_is_an_error() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            assert!(unpacked(coding, b"\x0f plain text and nothing else, which is long enough").is_err(), "{coding}");
        }
        assert!(unpacked("zstd", &zstd(b"cut")[..8]).is_err());
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(b"packed").unwrap();
        let zlib = zlib.finish().unwrap();
        assert!(unpacked("deflate", &[&zlib[..], b"and more"].concat()).is_err());
        assert_eq!(unpacked("deflate", &zlib).unwrap(), b"packed");
        assert_eq!(Coding::parse("gzip, br"), Err("gzip, br".to_owned()));
        assert_eq!(Coding::parse("identity"), Ok(None));
    }

    /// A packing that was changed anywhere is an error or unpacks to something within the bound; the packing itself unpacks to what was packed.
    #[test]
    fn any_bytes_unpack_within_the_bound_or_are_an_error() {
        let mut state = 7_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let mut broken = 0;
        for _ in 0..crate::leak::cases() {
            let text: Vec<u8> = (0..next(120)).map(|_| b"aab{}\"\0\xff"[next(8)]).collect();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&text).unwrap();
            let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            bare.write_all(&text).unwrap();
            let forms =
                [("gzip", gzip.finish().unwrap()), ("deflate", bare.finish().unwrap()), ("zstd", zstd(&text)), ("br", text.clone())];
            let (coding, mut packed) = forms[next(4)].clone();
            if coding != "br" && next(8) == 0 {
                assert_eq!(unpacked(coding, &packed).unwrap(), text, "{coding}");
            }
            for _ in 0..=next(3) {
                let at = next(packed.len().max(1));
                match next(3) {
                    0 => packed.truncate(at),
                    1 => packed.insert(at.min(packed.len()), u8::try_from(next(256)).unwrap()),
                    _ => packed.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
                }
            }
            match unpacked(coding, &packed) {
                Ok(bytes) => assert!(bytes.len() <= 1024 * 1024),
                Err(_) => broken += 1,
            }
        }
        assert!(broken > crate::leak::cases() / 4, "{broken}");
    }
}
