//! Just enough HTTP/1.1 to ask the door: one request, one answer, one connection.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The largest answer.
const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The largest header line and the most of them.
const HEADER_BYTES_MAX: u64 = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// An answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

enum Length {
    Known(u64),
    Chunked,
    ToEnd,
}

/// Sends a JSON body to `http://address/path` and reads the answer.
pub(crate) async fn post(address: &str, path: &str, body: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut reader = BufReader::new(stream);
    let status_line = line(&mut reader).await?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).filter(|_| status_line.starts_with("HTTP/1."));
    let Some(status) = status else { return Err(not_http("its first line is not an HTTP status")) };
    let body = match length(&mut reader).await? {
        Length::Known(count) if count > BODY_BYTES_MAX => return Err(not_http("its answer is too large")),
        Length::Known(count) => exactly(&mut reader, count).await?,
        Length::Chunked => chunks(&mut reader).await?,
        Length::ToEnd => {
            let mut body = Vec::new();
            reader.take(BODY_BYTES_MAX).read_to_end(&mut body).await?;
            body
        }
    };
    Ok(Response { status, body })
}

fn not_http(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(HEADER_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        return Err(not_http("the connection closed within the answer"));
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

async fn length(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Length> {
    let mut length = Length::ToEnd;
    for _ in 0..HEADERS_MAX {
        let header = line(reader).await?;
        if header.is_empty() {
            return Ok(length);
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().contains("chunked") {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(length, Length::Chunked) {
            length = Length::Known(value.trim().parse().map_err(|_| not_http("its Content-Length is not a number"))?);
        }
    }
    Err(not_http("it has too many headers"))
}

async fn exactly(reader: &mut (impl AsyncBufRead + Unpin), count: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if reader.take(count).read_to_end(&mut body).await? as u64 != count {
        return Err(not_http("the connection closed within the answer"));
    }
    Ok(body)
}

async fn chunks(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader).await?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let count = u64::from_str_radix(size, 16).map_err(|_| not_http("a chunk's size is not a number"))?;
        if count == 0 {
            return Ok(body);
        }
        if body.len() as u64 + count > BODY_BYTES_MAX {
            return Err(not_http("its answer is too large"));
        }
        body.extend(exactly(reader, count).await?);
        line(reader).await?;
    }
}
