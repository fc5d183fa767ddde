//! The results: one readable table, and the same as JSON with every sample.

use std::path::Path;

use serde_json::{Value, json};

/// The target of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The upper limit of our result divided by theirs.
    AtMost(f64),
    /// The lower limit of our result divided by theirs.
    AtLeast(f64),
}

/// The reference of a ratio.
#[derive(Clone, Debug)]
pub enum Against {
    /// A contestant of the same row, compared round by round.
    Contestant(String),
    /// A number with its name.
    Number(String, f64),
}

/// One measurement of all contestants.
#[derive(Clone, Debug)]
pub struct Row {
    measure: String,
    unit: &'static str,
    cells: Vec<(String, Vec<f64>)>,
    against: Option<Against>,
    target: Option<Target>,
    note: String,
}

impl Row {
    pub fn new(measure: impl Into<String>, unit: &'static str) -> Self {
        Self { measure: measure.into(), unit, cells: Vec::new(), against: None, target: None, note: String::new() }
    }

    /// Adds the samples of one contestant, one for each round.
    pub fn cell(mut self, contestant: &str, samples: Vec<f64>) -> Self {
        if !samples.is_empty() {
            self.cells.push((contestant.to_owned(), samples));
        }
        self
    }

    pub fn cells(mut self, cells: Vec<(String, Vec<f64>)>) -> Self {
        self.cells.extend(cells.into_iter().filter(|(_, samples)| !samples.is_empty()));
        self
    }

    /// Sets the ratio column to the first contestant divided by this contestant.
    pub fn against(mut self, contestant: &str) -> Self {
        self.against = Some(Against::Contestant(contestant.to_owned()));
        self
    }

    /// Sets the ratio column to the first contestant divided by a number.
    pub fn against_number(mut self, name: &str, number: f64) -> Self {
        self.against = Some(Against::Number(name.to_owned(), number));
        self
    }

    pub fn at_most(mut self, ratio: f64) -> Self {
        self.target = Some(Target::AtMost(ratio));
        self
    }

    pub fn at_least(mut self, ratio: f64) -> Self {
        self.target = Some(Target::AtLeast(ratio));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Returns the median of the ratios of the rounds.
    pub fn ratio(&self) -> Option<f64> {
        let (_, ours) = self.cells.first()?;
        match self.against.as_ref()? {
            Against::Number(_, number) => Some(median(ours) / number),
            Against::Contestant(name) => {
                let (_, theirs) = self.cells.iter().find(|(other, _)| other == name)?;
                let ratios: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
                Some(median(&ratios))
            }
        }
    }

    fn ratio_text(&self) -> String {
        let name = match &self.against {
            Some(Against::Contestant(name) | Against::Number(name, _)) => name,
            None => return String::new(),
        };
        self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}x {name}"))
    }

    fn verdict(&self) -> String {
        let (Some(ratio), Some(target)) = (self.ratio(), self.target) else { return String::new() };
        let (sign, limit, met) = match target {
            Target::AtMost(limit) => ("<=", limit, ratio <= limit),
            Target::AtLeast(limit) => (">=", limit, ratio >= limit),
        };
        format!("{sign}{limit} {}", if met { "met" } else { "MISSED" })
    }

    fn json(&self) -> Value {
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|(name, samples)| {
                let (low, high) = range(samples);
                json!({ "contestant": name, "median": median(samples), "low": low, "high": high, "samples": samples })
            })
            .collect();
        json!({
            "measure": self.measure, "unit": self.unit, "cells": cells, "ratio": self.ratio(),
            "against": self.ratio_text(), "verdict": self.verdict(), "note": self.note,
        })
    }
}

/// Returns the median.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn range(samples: &[f64]) -> (f64, f64) {
    samples.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)))
}

/// Returns the value below which the fraction `part` of the samples lies.
pub fn percentile(samples: &mut [u64], part: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_unstable();
    samples[((samples.len() as f64 * part) as usize).min(samples.len() - 1)] as f64
}

fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 1e6 => format!("{:.2}M", x / 1e6),
        a if a >= 1e4 => format!("{:.1}k", x / 1e3),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.3}"),
    }
}

fn cell_text(samples: &[f64]) -> String {
    let (low, high) = range(samples);
    match samples.len() {
        1 => number(samples[0]),
        _ => format!("{} ({}-{})", number(median(samples)), number(low), number(high)),
    }
}

/// All rows of one benchmark.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row, and prints it while the rest is still being measured.
    pub fn push(&mut self, row: Row) {
        let cells: Vec<_> = row.cells.iter().map(|(name, s)| format!("{name} {}", cell_text(s))).collect();
        eprintln!("  {} [{}]: {}  {} {}", row.measure, row.unit, cells.join(", "), row.ratio_text(), row.verdict());
        self.rows.push(row);
    }

    fn contestants(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.cells) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Prints the table as Markdown. Each cell is `median (lowest-highest)` of the rounds.
    pub fn print(&self) {
        let names = self.contestants();
        let mut lines = vec![
            [vec!["measure".to_owned(), "unit".to_owned()], names.clone(), vec!["ratio".into(), "target".into()]]
                .concat(),
        ];
        for row in &self.rows {
            let cells = names.iter().map(|name| {
                let found = row.cells.iter().find(|(other, _)| other == name);
                found.map_or_else(|| "-".to_owned(), |(_, samples)| cell_text(samples))
            });
            let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
            let mut line = vec![format!("{}{note}", row.measure), row.unit.to_owned()];
            line.extend(cells);
            line.extend([row.ratio_text(), row.verdict()]);
            lines.push(line);
        }
        let widths: Vec<_> = (0..lines[0].len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (number, line) in lines.iter().enumerate() {
            let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if number == 0 {
                let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
                println!("| {} |", rule.join(" | "));
            }
        }
    }

    /// Prints the table and writes the JSON.
    pub fn finish(&self, name: &str, path: &Path) {
        println!("\n# {name}\n");
        self.print();
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let report = json!({ "benchmark": name, "machine": crate::usage::machine(), "rows": rows });
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(path, format!("{report:#}\n")));
        match written {
            Ok(()) => println!("\nwritten to {}", path.display()),
            Err(error) => eprintln!("\nthe JSON could not be written to {}: {error}", path.display()),
        }
    }
}
