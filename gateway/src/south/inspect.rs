//! The inventory of a Thing without our agent: by one Read-Composite over all instances where it
//! knows that operation, else instance by instance.

use super::step::{TaskOutcome, TaskStep, WorkNotice};
use super::value_reads::{CompositeSupport, read_composite};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::inventory::{self, NamedValue, VALUES_MAX};
use crate::lwm2m::resource::InstancePath;

/// The formats of an instance, in order, while the Thing refuses them.
const FORMATS: [u16; 3] = [format::SENML_CBOR, format::LWM2M_TLV, format::SENML_JSON];
/// The object that every device has, for one that lists no instances.
const DEVICE: InstancePath = InstancePath {
    object: 3,
    instance: 0,
};

/// Reads the inventory.
#[derive(Debug)]
pub(super) struct InspectTask {
    instances: Vec<InstancePath>,
    composite: CompositeSupport,
    /// The next instance, and the index of the format that it is asked in.
    at: usize,
    format: usize,
    values: Vec<NamedValue>,
}

impl InspectTask {
    pub(super) fn new(mut instances: Vec<InstancePath>, composite: CompositeSupport) -> Self {
        if instances.is_empty() {
            instances.push(DEVICE);
        }
        Self {
            instances,
            composite,
            at: 0,
            format: 0,
            values: Vec::new(),
        }
    }

    /// Takes note that a request was not answered: a Thing may be silent about what it does not
    /// know.
    pub(super) fn unanswered(&mut self) -> CompositeSupport {
        let is_composite = self.composite_format().is_some();
        self.composite.unanswered(is_composite);
        self.composite
    }

    /// Whether the Thing knows composite operations, as far as it is known.
    pub(super) fn composite(&self) -> CompositeSupport {
        self.composite
    }

    /// The format of a composite read, unless one instance needs none.
    fn composite_format(&self) -> Option<u16> {
        let format = self.composite.format();
        format.filter(|_| self.instances.len() > 1)
    }

    pub(super) fn next(&self) -> TaskStep {
        let paths = self.instances.iter().map(InstancePath::to_string);
        let composite = self.composite_format();
        if let Some(fetch) = composite.and_then(|format| read_composite(paths, format)) {
            return TaskStep::Request(fetch);
        }
        let instance = self.instances.get(self.at).unwrap_or(&DEVICE);
        TaskStep::Request(Request::get(&instance.to_string()).with_accept(FORMATS[self.format]))
    }

    pub(super) fn answer(&mut self, response: &Response) -> TaskOutcome {
        if let Some(format) = self.composite_format() {
            match inventory::values(response, None) {
                Some(values) => {
                    self.composite = CompositeSupport::Known(format);
                    return self.end(values);
                }
                None => self.composite.refused(response.code),
            }
            return TaskOutcome::pending();
        }
        let refused = matches!(response.code, Code::NOT_ACCEPTABLE | Code::BAD_OPTION);
        if refused && self.format + 1 < FORMATS.len() {
            self.format += 1;
            return TaskOutcome::pending();
        }
        let instance = self.instances.get(self.at).copied();
        let values = inventory::values(response, instance);
        self.values.extend(values.into_iter().flatten());
        self.at += 1;
        if self.at < self.instances.len() {
            return TaskOutcome::pending();
        }
        let values = std::mem::take(&mut self.values);
        self.end(values)
    }

    fn end(&self, mut values: Vec<NamedValue>) -> TaskOutcome {
        values.sort_by(|one, other| one.0.cmp(&other.0));
        values.truncate(VALUES_MAX);
        TaskOutcome::end(WorkNotice::Inspected { values })
    }
}
