//! What can be said on the command line.

use std::path::PathBuf;

/// Options of a benchmark.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fewer rounds and fewer operations: to see that it works, not for figures to keep.
    pub quick: bool,
    /// Also what takes long or much memory: ten million entries.
    pub big: bool,
    /// Only these sections; all if empty.
    pub sections: Vec<String>,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Where the JSON goes.
    pub json: PathBuf,
    /// Where real traces are, if they are.
    pub traces: PathBuf,
    /// Where bcache and the like would be compared: only these contestants; all if empty.
    pub only: Vec<String>,
}

impl Options {
    /// Reads the command line of the benchmark `name`, which has these sections.
    pub fn parse(name: &str, sections: &[&str]) -> Self {
        let mut options = Self {
            quick: false,
            big: false,
            sections: Vec::new(),
            rounds: 0,
            json: format!("target/bench/{name}.json").into(),
            traces: std::env::var_os("DRIFTLESS_TRACES").map_or_else(usual_traces, Into::into),
            only: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value =
                |what: &str| words.next().unwrap_or_else(|| refuse(&format!("{what} needs a value"), name, sections));
            match word.as_str() {
                "--quick" => options.quick = true,
                "--cpu" => crate::rounds::measure_processor_time(),
                "--big" => options.big = true,
                "--section" => options.sections.push(value("--section")),
                "--only" => options.only.push(value("--only")),
                "--rounds" => options.rounds = value("--rounds").parse().unwrap_or(0),
                "--json" => options.json = value("--json").into(),
                "--traces" => options.traces = value("--traces").into(),
                "--bench" => {}
                other => refuse(&format!("unknown option `{other}`"), name, sections),
            }
        }
        if let Some(unknown) = options.sections.iter().find(|section| !sections.contains(&section.as_str())) {
            refuse(&format!("unknown section `{unknown}`"), name, sections);
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 3 } else { 7 };
        }
        options
    }

    /// Whether a section is to be run.
    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }

    /// Whether a contestant takes part. We always do.
    pub fn admits(&self, contestant: &str) -> bool {
        self.only.is_empty() || contestant.starts_with("driftless") || self.only.iter().any(|only| only == contestant)
    }

    /// `many`, or a tenth of it when in a hurry.
    pub fn scaled(&self, many: usize) -> usize {
        if self.quick { many / 10 } else { many }
    }
}

/// Beside the checkout, or beside a work tree of it.
fn usual_traces() -> PathBuf {
    let [near, far] = ["../shared/traces", "../../shared/traces"].map(PathBuf::from);
    if near.exists() { near } else { far }
}

fn refuse(why: &str, name: &str, sections: &[&str]) -> ! {
    eprintln!(
        "{why}\n\nusage: cargo bench --bench {name} -- [--quick] [--big] [--cpu] [--section NAME]... [--only CONTESTANT]...\n       \
         [--rounds N] [--json PATH] [--traces DIR]\nsections: {}",
        sections.join(", ")
    );
    std::process::exit(2)
}
