//! Which runs begin while verifiers are free.

use super::{Action, Flight, Purpose, Run, Suspect, Window};

/// A prefix holds at least so many changes more than the one before it, but for the last.
const CUT: usize = 3;

impl<C: Copy + Eq> Window<C> {
    /// Gives work to the free verifiers.
    pub(super) fn start(&mut self, actions: &mut Vec<Action<C>>) {
        if self.rate.alone_first() && self.gap.is_none() && self.closed() == 0 {
            let (cleared, unknown): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.queue).into_iter().partition(|entry| entry.cleared.is_some());
            self.queue = cleared;
            self.suspects.extend(unknown.into_iter().map(|entry| Suspect::of(entry, false)));
        }
        // Suspects and reasons do not hold up the others, and are not held up by them for ever.
        let aside = if self.queue.is_empty() { self.verifiers } else { self.verifiers.div_ceil(2) };
        let tried = self.flying(Purpose::Alone);
        self.try_suspects(self.free().min(aside.saturating_sub(tried)), actions);
        self.look_again(aside, actions);
        match self.gap {
            None => self.prefixes(actions),
            // A narrow gap is resolved by cuts alone.
            Some(gap) if !self.parts_tried && self.verifiers > 1 && gap > self.verifiers + 1 => self.without_parts(gap, actions),
            Some(gap) => self.bisect(gap, actions),
        }
        if self.queue.is_empty() {
            self.look_early(actions);
        }
    }

    pub(super) fn free(&self) -> usize {
        self.verifiers.saturating_sub(self.flights.len())
    }

    pub(super) fn flying(&self, purpose: Purpose) -> usize {
        self.flights.iter().filter(|flight| flight.purpose == purpose).count()
    }

    pub(super) fn begin(&mut self, purpose: Purpose, after: usize, changes: Vec<C>, again: bool, actions: &mut Vec<Action<C>>) -> u64 {
        self.numbers += 1;
        let run = Run { number: self.numbers, after, changes, again };
        self.flights.push(Flight { run: run.clone(), purpose });
        actions.push(Action::Start(run));
        self.numbers
    }

    fn head(&self, length: usize) -> Vec<C> {
        self.queue[..length].iter().map(|entry| entry.change).collect()
    }

    /// Without a gap: nested prefixes behind those that are already being verified.
    fn prefixes(&mut self, actions: &mut Vec<Action<C>>) {
        let (mut free, begun) = (self.free(), self.closed());
        let more = self.rate.batch(free).min(self.batch().saturating_sub(begun)).min(self.queue.len() - begun);
        // Few are not cut finer than many: they are likely green as a whole.
        free = free.min(more.div_ceil(CUT));
        let mut last = begun;
        for lane in 1..=free {
            let cut = begun + (more * lane).div_ceil(free.max(1)).min(more);
            if cut > last {
                last = cut;
                let changes = self.head(cut);
                self.begin(Purpose::Prefix, self.landed.len(), changes, false, actions);
            }
        }
    }

    fn batch(&self) -> usize {
        self.rate.batch(self.verifiers)
    }

    /// The gap without each of its parts.
    fn without_parts(&mut self, gap: usize, actions: &mut Vec<Action<C>>) {
        let free = self.free();
        if free < 2 || self.flying(Purpose::Without) > 0 {
            return;
        }
        self.parts_tried = true;
        let parts = free.min(gap);
        for part in 0..parts {
            let (from, to) = (part * gap / parts, (part + 1) * gap / parts);
            let changes = (0..gap).filter(|at| !(from..to).contains(at)).map(|at| self.queue[at].change).collect();
            self.begin(Purpose::Without, self.landed.len(), changes, false, actions);
        }
    }

    /// Cuts the gap into parts of one size, one more than verifiers are free.
    fn bisect(&mut self, gap: usize, actions: &mut Vec<Action<C>>) {
        if self.flying(Purpose::Without) > 0 {
            return;
        }
        let mut begun: Vec<usize> = self
            .flights
            .iter()
            .filter(|flight| flight.purpose == Purpose::Prefix)
            .map(|flight| &flight.run)
            .chain(&self.greens)
            .filter_map(|run| self.rest(run).filter(|rest| rest.len() < gap && self.is_head(rest)).map(<[C]>::len))
            .collect();
        begun.extend([0, gap]);
        begun.sort_unstable();
        let widest = begun.windows(2).map(|pair| (pair[0], pair[1])).max_by_key(|(from, to)| to - from);
        let Some((from, to)) = widest else { return };
        let lanes = self.free().min(to - from - 1);
        for lane in 1..=lanes {
            let changes = self.head(from + (to - from) * lane / (lanes + 1));
            self.begin(Purpose::Prefix, self.landed.len(), changes, false, actions);
        }
    }
}
