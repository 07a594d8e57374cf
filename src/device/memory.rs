//! Which methods a device has executed: the last 64 execution ids with their answers. A method that comes again, under
//! whatever request id, is answered from here.

use std::collections::VecDeque;

/// Executions that a device remembers. A command comes again within the minutes of its job's retries.
pub(super) const EXECUTIONS_MAX: usize = 64;

/// Methods that a device executes at once; more are answered with 503, and not executed.
const RUNNING_MAX: usize = 16;

/// An answer to a method: a status like that of HTTP, and JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// Returns the answer of a device that cannot say what came of a method.
    pub fn failed(message: &str) -> Answer {
        Answer::with_message(500, message)
    }

    pub fn with_message(status: u16, message: &str) -> Answer {
        Answer { status, body: serde_json::json!({"message": message}).to_string() }
    }
}

#[derive(Debug)]
enum Outcome {
    /// It is being executed by this process; these request ids wait for the answer.
    Running(Vec<String>),
    Answered(Answer),
}

/// What to do with a method that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Execute,
    /// It was executed before.
    Answer(Answer),
    /// It is being executed, and will be answered under this request id too.
    Wait,
}

/// The last executions of a device, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Memory {
    executions: VecDeque<(String, Outcome)>,
}

impl Memory {
    /// Returns the memory of a device whose executions were kept in a file, the oldest first. One without an answer was
    /// interrupted.
    pub fn of_past(past: impl IntoIterator<Item = (String, Option<Answer>)>) -> Memory {
        let mut memory = Memory::default();
        for (execution_id, answer) in past {
            let answer = answer.unwrap_or_else(|| Answer::failed("interrupted"));
            memory.executions.push_back((execution_id, Outcome::Answered(answer)));
        }
        memory.forget();
        memory
    }

    /// Returns what to do with a method; one to execute is remembered as running.
    pub fn come(&mut self, execution_id: &str, rid: &str) -> Verdict {
        let is_busy = self.running() >= RUNNING_MAX;
        match self.executions.iter_mut().find(|(id, _)| id == execution_id) {
            Some((_, Outcome::Answered(answer))) => Verdict::Answer(answer.clone()),
            Some((_, Outcome::Running(waiting))) => {
                if !waiting.iter().any(|one| one == rid) {
                    waiting.push(rid.to_string());
                }
                Verdict::Wait
            }
            None if is_busy => Verdict::Answer(Answer::with_message(503, "busy")),
            None => {
                self.executions.push_back((execution_id.to_string(), Outcome::Running(vec![rid.to_string()])));
                self.forget();
                Verdict::Execute
            }
        }
    }

    /// Keeps an answer, and returns the request ids that wait for it.
    pub fn done(&mut self, execution_id: &str, answer: &Answer) -> Vec<String> {
        let Some((_, outcome)) = self.executions.iter_mut().find(|(id, _)| id == execution_id) else {
            return Vec::new();
        };
        match std::mem::replace(outcome, Outcome::Answered(answer.clone())) {
            Outcome::Running(waiting) => waiting,
            Outcome::Answered(_) => Vec::new(),
        }
    }

    /// Returns how many methods are being executed.
    pub fn running(&self) -> usize {
        self.executions.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Running(_))).count()
    }

    /// Forgets the oldest; one that runs is never forgotten.
    fn forget(&mut self) {
        while self.executions.len() > EXECUTIONS_MAX {
            let is_done = |(_, outcome): &(String, Outcome)| matches!(outcome, Outcome::Answered(_));
            let Some(at) = self.executions.iter().position(is_done) else { return };
            self.executions.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_executed_once_and_answered_as_often_as_it_comes() {
        let mut memory = Memory::default();
        let ok = Answer { status: 200, body: "{}".to_string() };
        assert_eq!(memory.come("x", "1"), Verdict::Execute);
        assert_eq!(memory.come("x", "2"), Verdict::Wait);
        assert_eq!(memory.come("x", "2"), Verdict::Wait);
        assert_eq!(memory.done("x", &ok), ["1", "2"]);
        assert_eq!(memory.come("x", "3"), Verdict::Answer(ok));
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_runs_is_not() {
        let mut memory = Memory::default();
        let ok = Answer { status: 200, body: "{}".to_string() };
        assert_eq!(memory.come("long", "0"), Verdict::Execute);
        for n in 0..EXECUTIONS_MAX + 10 {
            assert_eq!(memory.come(&n.to_string(), "1"), Verdict::Execute);
            memory.done(&n.to_string(), &ok);
        }
        assert_eq!(memory.executions.len(), EXECUTIONS_MAX);
        assert_eq!(memory.come("long", "2"), Verdict::Wait);
        assert_eq!(memory.come("0", "2"), Verdict::Execute);
    }

    #[test]
    fn what_was_begun_before_a_death_is_answered_as_interrupted() {
        let ok = Answer { status: 202, body: "1".to_string() };
        let mut memory = Memory::of_past([("a".to_string(), Some(ok.clone())), ("b".to_string(), None)]);
        assert_eq!(memory.come("a", "1"), Verdict::Answer(ok));
        let interrupted = Answer { status: 500, body: r#"{"message":"interrupted"}"#.to_string() };
        assert_eq!(memory.come("b", "1"), Verdict::Answer(interrupted));
    }
}
