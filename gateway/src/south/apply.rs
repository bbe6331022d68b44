//! The application of a configuration to the standard resources of a Thing without our agent.
//!
//! 1. Discover each instance: a resource that the Thing lacks ends it before anything is written.
//! 2. Read all values: what is right already is not written again, and what is not can be restored.
//! 3. Write what differs, with as few operations as the Thing knows, and create what is missing.
//! 4. Read back. If a value was refused, or is another one than was written, the former ones are
//!    restored: a Thing has the whole document or the one from before.
//!
//! After a registration it starts over, with the values from before the first write in mind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lamplighter_types::Hash;
use tokio::time::Instant;

use super::step::{TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use super::value_reads::{CompositeSupport, FoundValue, ValueReads};
use super::value_writes::{ValueWrite, WriteAnswer};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::link_format;
use crate::lwm2m::resource::{InstancePath, Resource, ResourcePath, ResourceValue};

/// Answers "busy" after which a write has failed; the same pause and number as for documents.
const TRIES_MAX: u32 = 12;
/// Reads of a value that is not the written one: a Thing may take a moment to adopt it.
const CHECKS_MAX: u32 = 3;

#[derive(Debug)]
enum ApplyPhase {
    /// Ask for the resources of the instances from this one on.
    Discover(usize),
    Read(ValueReads),
    Write,
    Check(ValueReads),
    /// Restore what was written.
    Undo,
}

/// Writes the values of a configuration.
#[derive(Debug)]
pub(super) struct ApplyTask {
    document: Hash,
    /// In the order of their paths.
    wanted: Vec<Resource>,
    phase: ApplyPhase,
    composite: CompositeSupport,
    /// Instances of which the Thing said that it has none.
    missing: BTreeSet<InstancePath>,
    /// The values before the first write.
    before: BTreeMap<ResourcePath, FoundValue>,
    writes: VecDeque<ValueWrite>,
    written: Vec<Resource>,
    created: Vec<InstancePath>,
    /// Why it fails, and what could not be restored.
    failure: Option<String>,
    not_restored: Vec<String>,
    retry_at: Option<Instant>,
    tries: u32,
    checks: u32,
}

impl ApplyTask {
    /// Starts with a document's values; `None` if there are none.
    pub(super) fn new(
        document: Hash,
        wanted: Vec<Resource>,
        composite: CompositeSupport,
    ) -> Option<Self> {
        (!wanted.is_empty()).then(|| Self {
            document,
            wanted,
            phase: ApplyPhase::Discover(0),
            composite,
            missing: BTreeSet::new(),
            before: BTreeMap::new(),
            writes: VecDeque::new(),
            written: Vec::new(),
            created: Vec::new(),
            failure: None,
            not_restored: Vec::new(),
            retry_at: None,
            tries: 0,
            checks: 0,
        })
    }

    /// Starts over after a registration: the Thing may have booted, and have lost what it was told.
    pub(super) fn restart(&mut self) {
        self.retry_at = None;
        if self.failure.is_none() {
            self.phase = ApplyPhase::Discover(0);
            self.missing.clear();
            self.writes.clear();
        }
    }

    /// Takes note that a request was not answered: a Thing may be silent about what it does not
    /// know.
    pub(super) fn unanswered(&mut self) -> CompositeSupport {
        let is_composite = matches!(
            &self.phase,
            ApplyPhase::Read(reads) | ApplyPhase::Check(reads) if reads.is_composite()
        );
        self.composite.unanswered(is_composite);
        self.composite
    }

    /// Whether the Thing knows composite operations, as far as it is known.
    pub(super) fn composite(&self) -> CompositeSupport {
        self.composite
    }

    pub(super) fn next(&mut self, now: Instant) -> TaskStep {
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return TaskStep::Wait(at);
        }
        let instances = self.instances();
        let request = match &mut self.phase {
            ApplyPhase::Discover(at) => instances.get(*at).map(discover),
            ApplyPhase::Read(reads) | ApplyPhase::Check(reads) => reads.next(self.composite),
            ApplyPhase::Write | ApplyPhase::Undo => {
                self.writes.front_mut().and_then(ValueWrite::request)
            }
        };
        TaskStep::Request(request.expect("a phase without a request left has ended"))
    }

    pub(super) fn answer(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let is_busy = [Code::UNAVAILABLE, Code::TOO_MANY_REQUESTS, Code::INCOMPLETE];
        self.tries += 1;
        if is_busy.contains(&reply.response.code) && self.tries < TRIES_MAX {
            self.retry_at = Some(reply.next_poll());
            return TaskOutcome::pending();
        }
        self.tries = 0;
        match &mut self.phase {
            ApplyPhase::Discover(at) => {
                let at = *at;
                self.discovered(at, reply.response)
            }
            ApplyPhase::Read(reads) => match reads.answer(reply, &mut self.composite) {
                Some(found) => self.on_values(found),
                None => TaskOutcome::pending(),
            },
            ApplyPhase::Write => self.write_answered(reply.response),
            ApplyPhase::Check(reads) => match reads.answer(reply, &mut self.composite) {
                Some(found) => self.checked(&found, reply),
                None => TaskOutcome::pending(),
            },
            ApplyPhase::Undo => self.undo_answered(reply.response),
        }
    }

    fn instances(&self) -> Vec<InstancePath> {
        let instances: BTreeSet<_> = self
            .wanted
            .iter()
            .map(|resource| resource.path.of)
            .collect();
        instances.into_iter().collect()
    }

    fn discovered(&mut self, at: usize, response: &Response) -> TaskOutcome {
        let instances = self.instances();
        let Some(instance) = instances.get(at).copied() else {
            return self.read();
        };
        if response.code == Code::NOT_FOUND {
            self.missing.insert(instance);
        }
        let listed = listed(response, instance);
        let of_instance = self.wanted.iter().filter(|one| one.path.of == instance);
        let is_absent = |one: &&Resource| !listed.contains(&one.path.resource);
        let absent = of_instance.map(|one| (one, is_absent(&one)));
        let absent = absent.filter(|(_, is_absent)| *is_absent && !listed.is_empty());
        if let Some((resource, _)) = absent.into_iter().next() {
            let reason = format!("lwm2m.no_resource: the Thing has no {}", resource.path);
            return self.fail(reason);
        }
        if at + 1 < instances.len() {
            self.phase = ApplyPhase::Discover(at + 1);
            return TaskOutcome::pending();
        }
        self.read()
    }

    fn read(&mut self) -> TaskOutcome {
        self.phase = ApplyPhase::Read(ValueReads::new(self.wanted.clone()));
        TaskOutcome::pending()
    }

    /// Plans the writes from the values that the Thing has now.
    fn on_values(&mut self, found: Vec<FoundValue>) -> TaskOutcome {
        let pairs: Vec<(Resource, FoundValue)> = self.wanted.iter().cloned().zip(found).collect();
        for (resource, found) in &pairs {
            if *found != FoundValue::Absent {
                self.missing.remove(&resource.path.of);
            }
            self.before.entry(resource.path).or_insert(found.clone());
        }
        let differs = |found: &FoundValue, wanted: &ResourceValue| match found {
            FoundValue::Value(value) => !value.is_same(wanted),
            FoundValue::Absent | FoundValue::Unreadable => true,
        };
        let differing = pairs
            .iter()
            .filter(|(one, found)| differs(found, &one.value));
        let (new, changed): (Vec<Resource>, Vec<Resource>) = differing
            .map(|(resource, _)| resource.clone())
            .partition(|resource| self.missing.contains(&resource.path.of));
        let new = new.chunk_by(|one, other| one.path.of == other.path.of);
        self.writes = new
            .map(|of| ValueWrite::create(of[0].path.of, of.to_vec()))
            .collect();
        let composite = matches!(self.composite, CompositeSupport::Known(_));
        self.writes.extend(ValueWrite::of(changed, composite));
        self.phase = ApplyPhase::Write;
        self.next_write()
    }

    /// Continues with the next write, or with the check when there is none.
    fn next_write(&mut self) -> TaskOutcome {
        if !self.writes.is_empty() {
            return TaskOutcome::pending();
        }
        if self.written.is_empty() {
            return self.succeed(&[]);
        }
        self.phase = ApplyPhase::Check(ValueReads::new(self.written.clone()));
        TaskOutcome::pending()
    }

    fn write_answered(&mut self, response: &Response) -> TaskOutcome {
        let Some(mut write) = self.writes.pop_front() else {
            return self.next_write();
        };
        match write.answer(response.code, &response.text()) {
            WriteAnswer::Done => {
                self.created.extend(write.created());
                let is_new = |one: &Resource| self.written.iter().all(|it| it.path != one.path);
                let new: Vec<_> = write.resources.into_iter().filter(is_new).collect();
                self.written.extend(new);
            }
            WriteAnswer::Again => self.writes.push_front(write),
            WriteAnswer::Split(parts) => {
                for part in parts.into_iter().rev() {
                    self.writes.push_front(part);
                }
            }
            WriteAnswer::Refused(reason) => {
                return self.fail(format!("lwm2m.refused: {reason}"));
            }
        }
        self.next_write()
    }

    /// Compares what was read back with what was written.
    fn checked(&mut self, found: &[FoundValue], reply: &TaskResponse<'_>) -> TaskOutcome {
        let pairs = self.written.iter().zip(found);
        let mut unreadable = Vec::new();
        let mut differing = None;
        for (resource, found) in pairs {
            match found {
                FoundValue::Value(value) if value.is_same(&resource.value) => {}
                FoundValue::Value(value) => {
                    let Resource {
                        path,
                        value: wanted,
                    } = resource;
                    differing.get_or_insert(format!("{path} is {value}, {wanted} was written"));
                }
                FoundValue::Absent | FoundValue::Unreadable => {
                    unreadable.push(resource.path.to_string());
                }
            }
        }
        let Some(reason) = differing else {
            return self.succeed(&unreadable);
        };
        self.checks += 1;
        if self.checks >= CHECKS_MAX {
            return self.fail(format!("lwm2m.differs: {reason}"));
        }
        self.retry_at = Some(reply.next_poll());
        self.phase = ApplyPhase::Check(ValueReads::new(self.written.clone()));
        TaskOutcome::pending()
    }

    /// Gives up, after what was written has its former values again.
    fn fail(&mut self, reason: String) -> TaskOutcome {
        self.failure = Some(reason);
        self.writes.clear();
        for instance in self.created.drain(..).rev() {
            self.writes.push_back(ValueWrite::delete(instance));
        }
        for resource in self.written.drain(..).rev() {
            let path = resource.path;
            match self.before.get(&path) {
                Some(FoundValue::Value(value)) => {
                    let value = value.clone();
                    self.writes
                        .push_back(ValueWrite::one(Resource { path, value }));
                }
                _ if self.missing.contains(&path.of) => {}
                _ => self.not_restored.push(path.to_string()),
            }
        }
        self.phase = ApplyPhase::Undo;
        self.next_undo()
    }

    fn undo_answered(&mut self, response: &Response) -> TaskOutcome {
        if let Some(mut write) = self.writes.pop_front() {
            match write.answer(response.code, &response.text()) {
                WriteAnswer::Again => self.writes.push_front(write),
                WriteAnswer::Refused(_) => self.not_restored.push(write.target()),
                WriteAnswer::Done | WriteAnswer::Split(_) => {}
            }
        }
        self.next_undo()
    }

    fn next_undo(&mut self) -> TaskOutcome {
        if !self.writes.is_empty() {
            return TaskOutcome::pending();
        }
        let mut detail = self.failure.take().unwrap_or_default();
        if !self.not_restored.is_empty() {
            detail += &format!("; not restored: {}", self.not_restored.join(", "));
        }
        self.end(false, detail)
    }

    fn succeed(&mut self, unreadable: &[String]) -> TaskOutcome {
        let (all, written) = (self.wanted.len(), self.written.len());
        let mut detail = format!("{written} of {all} resources written");
        if !unreadable.is_empty() {
            detail += &format!("; not readable: {}", unreadable.join(", "));
        }
        self.end(true, detail)
    }

    fn end(&self, applied: bool, detail: String) -> TaskOutcome {
        TaskOutcome::end(WorkNotice::Applied {
            document: self.document,
            applied,
            detail,
        })
    }
}

/// A Discover of an instance.
fn discover(instance: &InstancePath) -> Request {
    Request::get(&instance.to_string()).with_accept(format::LINK_FORMAT)
}

/// The resources of an instance that a response to a Discover lists; empty if it does not say.
fn listed(response: &Response, instance: InstancePath) -> BTreeSet<u16> {
    let is_list = response.content_format == Some(format::LINK_FORMAT);
    let is_list = is_list && response.code == Code::CONTENT;
    let links = is_list.then(|| link_format::parse(&response.payload).ok());
    let links = links.flatten().unwrap_or_default();
    let resource = |target: &str| {
        // Below the root that the Thing may have.
        let at = target.find(&format!("{instance}/"))?;
        let path: ResourcePath = target[at..].parse().ok()?;
        Some(path.resource)
    };
    links
        .iter()
        .filter_map(|link| resource(&link.target))
        .collect()
}
