//! A goal or a prompt that is given on stdin, since the kernel takes no argument of more than 128 KiB.

use std::io::Read;

use crate::error::CliError;

/// What stands on the command line for stdin.
const STDIN: &str = "-";

/// Returns the text, or all of stdin when it is `-`. `what` names it in messages; `max` is the most bytes that are read.
///
/// # Errors
/// When stdin holds more, is not UTF-8 or cannot be read.
pub fn read(text: &str, what: &str, max: usize) -> Result<String, CliError> {
    if text != STDIN {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::failure(format!("cannot read the {what} from stdin: {error}")))?;
    if bytes.len() > max {
        return Err(CliError::usage(format!("the {what} on stdin has more than {max} bytes"))
            .hint(format!("commit the long text to the repository and name its file in the {what}")));
    }
    String::from_utf8(bytes).map_err(|error| {
        CliError::usage(format!("the {what} on stdin is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
            .hint("`iconv -t UTF-8` converts it")
    })
}
