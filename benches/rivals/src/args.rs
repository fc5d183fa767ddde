//! Command-line options of the benchmarks.

use std::path::PathBuf;

/// Options of a benchmark.
#[derive(Clone, Debug)]
pub struct Options {
    /// Runs fewer rounds and fewer operations: a check that the benchmark works, not a measurement to keep.
    pub quick: bool,
    /// Also runs the parts that take much time or memory, with ten million entries.
    pub big: bool,
    /// The sections to run. All if empty.
    pub sections: Vec<String>,
    /// The number of interleaved rounds.
    pub rounds: usize,
    /// The path of the JSON output.
    pub json: PathBuf,
    /// The folder of recorded traces, if there is one.
    pub traces: PathBuf,
    /// The contestants to compare with. All if empty.
    pub only: Vec<String>,
}

impl Options {
    /// Parses the command line of the benchmark `name`, which has these sections.
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

    /// Returns true if a section is to run.
    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }

    /// Returns true if a contestant takes part. driftless always does.
    pub fn admits(&self, contestant: &str) -> bool {
        self.only.is_empty() || contestant.starts_with("driftless") || self.only.iter().any(|only| only == contestant)
    }

    /// Returns `many`, or a tenth of it with `--quick`.
    pub fn scaled(&self, many: usize) -> usize {
        if self.quick { many / 10 } else { many }
    }
}

/// Returns the default folder of traces: next to the checkout, or next to a work tree of it.
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
