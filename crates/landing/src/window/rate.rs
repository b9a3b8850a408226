//! How often changes are bad, and how many are joined for it.

/// What is believed before anything was seen: 1 bad change in 25, worth 25 changes of experience.
const PRIOR_BAD: f64 = 1.0;
const PRIOR_ALL: f64 = 25.0;
/// From this chance on a change is tried alone before it is joined with others.
const ALONE_FROM: f64 = 0.2;
/// Changes in one batch, at most.
const BATCH_MAX: usize = 64;

/// The measured chance that a change is bad.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    bad: f64,
    all: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { bad: PRIOR_BAD, all: PRIOR_ALL }
    }
}

impl Rate {
    /// What the last changes of a project say: so many landed, so many were ejected.
    pub fn measured(landed: usize, ejected: usize) -> Self {
        let mut rate = Self::default();
        rate.landed(landed);
        (0..ejected).for_each(|_| rate.ejected());
        rate
    }

    /// The chance that the next change is bad, 0 to 1.
    pub fn bad(self) -> f64 {
        self.bad / self.all
    }

    /// Changes in one batch for so many verifiers: about W/sqrt(p), a multiple of the number of verifiers.
    pub fn batch(self, verifiers: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1/sqrt(p) is between 1 and 16")]
        let each = (1.0 / self.bad().sqrt()).clamp(1.0, 16.0).round() as usize;
        (each * verifiers).min(BATCH_MAX.max(verifiers))
    }

    /// Whether a change is tried alone before it is joined with others.
    pub(super) fn alone_first(self) -> bool {
        self.bad() >= ALONE_FROM
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of changes are small")]
    pub(super) fn landed(&mut self, changes: usize) {
        self.all += changes as f64;
    }

    pub(super) fn ejected(&mut self) {
        self.bad += 1.0;
        self.all += 1.0;
    }
}
