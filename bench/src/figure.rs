//! One row of the table: what, how much, beside what, and whether that is good enough.

use std::fmt;

use serde_json::{Value, json};

/// A number with its unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Amount {
    value: f64,
    unit: &'static str,
}

impl Amount {
    /// Milliseconds.
    pub(crate) fn millis(value: f64) -> Self {
        Self { value, unit: "ms" }
    }

    /// Bytes, shown as megabytes (10^6 bytes).
    pub(crate) fn megabytes(bytes: f64) -> Self {
        Self { value: bytes / 1e6, unit: "MB" }
    }

    /// So many in a second.
    pub(crate) fn per_second(value: f64) -> Self {
        Self { value, unit: "/s" }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.value.abs() {
            large if large >= 100.0 => 0,
            middle if middle >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.digits$} {}", self.value, self.unit)
    }
}

/// What is asked of a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Target {
    /// At most so many times the peer.
    TimesAtMost(f64),
    /// At least so many times the peer.
    TimesAtLeast(f64),
    /// At most so much more than the peer, in the figure's unit.
    MoreAtMost(f64),
    /// At most so much, in the figure's unit.
    AtMost(f64),
    /// Nothing: it is reported.
    Reported,
}

/// A measured figure.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figure {
    what: String,
    measured: Amount,
    peer: Option<(&'static str, Amount)>,
    target: Target,
}

impl Figure {
    /// A figure beside a floor or peer of the same unit that was measured in the same run.
    pub(crate) fn beside(what: impl Into<String>, measured: Amount, peer: (&'static str, Amount), target: Target) -> Self {
        Self { what: what.into(), measured, peer: Some(peer), target }
    }

    /// A figure that stands for itself.
    pub(crate) fn alone(what: impl Into<String>, measured: Amount, target: Target) -> Self {
        Self { what: what.into(), measured, peer: None, target }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|(_, peer)| self.measured.value / peer.value)
    }

    fn more(&self) -> Option<f64> {
        self.peer.map(|(_, peer)| self.measured.value - peer.value)
    }

    /// Whether the target is met; `None` when there is none.
    fn met(&self) -> Option<bool> {
        match self.target {
            Target::TimesAtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Target::TimesAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Target::MoreAtMost(most) => self.more().map(|more| more <= most),
            Target::AtMost(most) => Some(self.measured.value <= most),
            Target::Reported => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::TimesAtMost(most) => format!("at most {most}x"),
            Target::TimesAtLeast(least) => format!("at least {least}x"),
            Target::MoreAtMost(most) => format!("at most {most} {} more", self.measured.unit),
            Target::AtMost(most) => format!("at most {most} {}", self.measured.unit),
            Target::Reported => "reported".to_owned(),
        }
    }

    fn ratio_text(&self) -> String {
        match (self.target, self.ratio(), self.more()) {
            (Target::MoreAtMost(_), _, Some(more)) => format!("{more:+.1} {}", self.measured.unit),
            (_, Some(ratio), _) => format!("{ratio:.2}x"),
            _ => String::new(),
        }
    }

    /// The row as an object.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "what": self.what, "measured": self.measured.value, "unit": self.measured.unit,
            "peer": self.peer.map(|(name, _)| name), "peer_measured": self.peer.map(|(_, peer)| peer.value),
            "ratio": self.ratio(), "more": self.more(), "target": self.target_text(), "met": self.met(),
        })
    }

    fn cells(&self) -> [String; 6] {
        [
            self.what.clone(),
            self.measured.to_string(),
            self.peer.map(|(name, peer)| format!("{name}: {peer}")).unwrap_or_default(),
            self.ratio_text(),
            self.target_text(),
            self.met().map_or("", |met| if met { "met" } else { "NOT MET" }).to_owned(),
        ]
    }
}

/// The table in Markdown, columns aligned.
pub(crate) fn table(figures: &[Figure]) -> Vec<String> {
    let head = ["what", "measured", "beside it", "ratio", "target", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(figures.iter().map(Figure::cells)).collect();
    let widths: Vec<usize> = (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)).collect();
    let line = |cells: &[String; 6]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1, format!("| {} |", rule.join(" | ")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged() {
        let beside = |target| Figure::beside("x", Amount::millis(6.0), ("y", Amount::millis(2.0)), target).met();
        assert_eq!(beside(Target::TimesAtMost(3.0)), Some(true));
        assert_eq!(beside(Target::TimesAtMost(2.9)), Some(false));
        assert_eq!(beside(Target::TimesAtLeast(3.1)), Some(false));
        assert_eq!(beside(Target::MoreAtMost(4.0)), Some(true));
        assert_eq!(beside(Target::Reported), None);
        assert_eq!(Figure::alone("x", Amount::megabytes(2e7), Target::AtMost(20.0)).met(), Some(true));
    }

    #[test]
    fn the_table_is_aligned() {
        let lines = table(&[Figure::beside("long name", Amount::per_second(1234.5), ("peer", Amount::per_second(1.0)), Target::Reported)]);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
        assert!(lines[2].contains("1234 /s") && lines[2].contains("1234.50x"), "{lines:?}");
    }
}
