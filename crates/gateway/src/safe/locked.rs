//! Memory that holds a secret: never written to swap, overwritten at its end.

use std::ops::Deref;

use zeroize::Zeroize;

/// Keeps the pages of these bytes from being swapped out. Only a help: where the limit of locked memory is reached, they stay as they are.
/// The pages stay locked when the bytes are gone, so this is for what lives as long as the process.
#[expect(unsafe_code, reason = "locking memory takes an address")]
pub(crate) fn lock(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: the range is that of a live slice; locking changes neither its bytes nor who may use it.
    let locked = unsafe { rustix::mm::mlock(bytes.as_ptr().cast_mut().cast(), bytes.len()) };
    if let Err(error) = locked {
        tracing::debug!(%error, "the memory of a secret could not be locked");
    }
}

/// Bytes of ours that are secret.
pub(crate) struct Locked(Box<[u8; 32]>);

impl Locked {
    /// Fills them where they stay.
    pub(crate) fn fill<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut locked = Self(Box::new([0; 32]));
        lock(locked.0.as_slice());
        fill(&mut locked.0)?;
        Ok(locked)
    }
}

impl Deref for Locked {
    type Target = [u8; 32];
    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
