//! A build's events as the lines of Docker's classic builder: stages that work side by side are told one after the other,
//! and every instruction is a step, also those that make no layer.

use std::collections::{HashMap, VecDeque};

use build::Event;
use build::dockerfile::{Dockerfile, Instruction};
use build::stages::Plan;

/// Turns events into lines. The default knows no plan: it tells steps as they come.
#[derive(Default)]
pub(super) struct Transcript {
    /// Needed stages in order.
    stages: Vec<StageLines>,
    /// Which stage a step of the build is in.
    places: HashMap<usize, usize>,
    /// The stage that is told now.
    head: usize,
    steps: usize,
}

/// A stage's instructions and lines.
struct StageLines {
    /// What the build calls it.
    label: String,
    /// Text of each instruction, and whether it is told of when it runs.
    codes: Vec<(String, bool)>,
    /// How many steps all stages before it have.
    before: usize,
    next: usize,
    /// The step that runs.
    running: Option<usize>,
    waiting: VecDeque<String>,
}

impl Transcript {
    /// For a build by this plan.
    pub(super) fn new(file: &Dockerfile, plan: &Plan) -> Self {
        let mut steps = 0;
        let stages = plan.order.iter().map(|&index| {
            let stage = &file.stages[index];
            let layered = |instruction: &Instruction| {
                use Instruction::{Add, Copy, Run, Workdir};
                matches!(instruction, Run(_) | Copy(_) | Add(_) | Workdir(_))
            };
            let from = (
                format!("FROM {}", from_text(stage)),
                !matches!(plan.bases[index], build::stages::Origin::Scratch | build::stages::Origin::Stage(_)),
            );
            let codes: Vec<_> = std::iter::once(from)
                .chain(stage.steps.iter().map(|step| (step.code.clone(), layered(&step.instruction))))
                .collect();
            let label = stage.from.name.clone().unwrap_or_else(|| format!("stage-{index}"));
            let before = steps;
            steps += codes.len();
            StageLines { label, codes, before, next: 0, running: None, waiting: VecDeque::new() }
        });
        let stages = stages.collect();
        Transcript { stages, places: HashMap::new(), head: 0, steps }
    }

    /// The lines that an event brings.
    pub(super) fn hear(&mut self, event: &Event) -> Vec<String> {
        if self.stages.is_empty() {
            return match event {
                Event::Began { name, .. } => vec![format!("Step : {name}\n")],
                Event::Output { bytes, .. } => vec![String::from_utf8_lossy(bytes).into_owned()],
                _ => Vec::new(),
            };
        }
        match event {
            Event::Began { step, name, .. } => self.begin(*step, name),
            Event::Output { step, bytes, .. } => self.say(*step, String::from_utf8_lossy(bytes).into_owned()),
            Event::Cached { step } => {
                if self.place(*step).is_some_and(|stage| stage.next > 1) {
                    self.say(*step, " ---> Using cache\n".to_owned());
                }
                self.ended(*step);
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => self.ended(*step),
            Event::Progress { .. } | Event::Warning(_) => {}
        }
        self.take()
    }

    /// What is left when the build has succeeded.
    pub(super) fn finish(&mut self) -> Vec<String> {
        let total = self.steps;
        self.stages.iter_mut().for_each(|stage| stage.announce_rest(total));
        let waiting = self.stages.iter_mut().skip(self.head).flat_map(|stage| stage.waiting.drain(..));
        waiting.collect()
    }

    fn place(&mut self, step: usize) -> Option<&mut StageLines> {
        self.places.get(&step).and_then(|place| self.stages.get_mut(*place))
    }

    fn begin(&mut self, step: usize, name: &str) {
        let (label, code) = split(name);
        let place = match label {
            Some(label) => self.stages.iter().position(|stage| stage.label == label),
            None => (self.stages.len() == 1).then_some(0),
        };
        let Some(place) = place else { return };
        self.places.insert(step, place);
        let total = self.steps;
        self.stages[place].begin(step, code, total);
    }

    fn say(&mut self, step: usize, line: String) {
        if let Some(stage) = self.place(step) {
            stage.waiting.push_back(line);
        }
    }

    fn ended(&mut self, step: usize) {
        let total = self.steps;
        if let Some(stage) = self.place(step) {
            stage.running = None;
            if !stage.codes[stage.next..].iter().any(|(_, told)| *told) {
                stage.announce_rest(total);
            }
        }
    }

    /// Lines of the stage that is told, and of those behind it if it is over.
    fn take(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(stage) = self.stages.get_mut(self.head) {
            lines.extend(stage.waiting.drain(..));
            if stage.next < stage.codes.len() || stage.running.is_some() {
                break;
            }
            self.head += 1;
        }
        lines
    }
}

impl StageLines {
    fn begin(&mut self, step: usize, code: &str, total: usize) {
        while self.codes.get(self.next).is_some_and(|(text, told)| !told && text != code) {
            self.announce(total);
        }
        match self.codes.get(self.next) {
            Some((text, _)) if text == code || self.next == 0 => self.announce(total),
            _ => self.waiting.push_back(format!("# Executing build trigger\n{code}\n")),
        }
        self.running = Some(step);
    }

    fn announce(&mut self, total: usize) {
        if let Some((code, _)) = self.codes.get(self.next) {
            self.next += 1;
            self.waiting.push_back(format!("Step {}/{total} : {code}", self.before + self.next));
            self.waiting.push_back("\n".to_owned());
        }
    }

    fn announce_rest(&mut self, total: usize) {
        while self.next < self.codes.len() {
            self.announce(total);
        }
    }
}

fn from_text(stage: &build::dockerfile::Stage) -> String {
    let platform = stage.from.platform.as_ref().map(|platform| format!("--platform={platform} ")).unwrap_or_default();
    let name = stage.from.name.as_ref().map(|name| format!(" AS {name}")).unwrap_or_default();
    format!("{platform}{}{name}", stage.from.base)
}

/// `[LABEL n/m] CODE` → label and code.
fn split(name: &str) -> (Option<&str>, &str) {
    let Some((head, code)) = name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else { return (None, name) };
    (head.rsplit_once(' ').map(|(label, _)| label), code)
}
