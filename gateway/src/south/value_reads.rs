//! The reading of several resources: by a Read-Composite (LwM2M 1.1) where the Thing knows it, else
//! one by one.

use super::step::TaskResponse;
use crate::coap::{Code, Request, format};
use crate::lwm2m::resource::{self, Resource, ResourceValue};

/// Formats of composite operations, in order, while the Thing refuses them.
pub(super) const COMPOSITE_FORMATS: [u16; 2] = [format::SENML_CBOR, format::SENML_JSON];
/// Resources from which on one composite read is worth a try.
const COMPOSITE_MIN: usize = 2;

/// A value as a read found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundValue {
    /// The Thing has it.
    Value(ResourceValue),
    /// The Thing says that there is no such resource.
    Absent,
    /// The Thing does not give it, or in no form that can be read.
    Unreadable,
}

/// Whether the Thing knows composite operations, and in which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompositeSupport {
    /// Not known; the format to try.
    Untried(usize),
    /// It does, in this format.
    Known(u16),
    /// It does not.
    Absent,
}

impl CompositeSupport {
    /// The format to use; `None` if the Thing is known not to have it.
    pub(super) fn format(self) -> Option<u16> {
        match self {
            CompositeSupport::Untried(at) => COMPOSITE_FORMATS.get(at).copied(),
            CompositeSupport::Known(format) => Some(format),
            CompositeSupport::Absent => None,
        }
    }

    /// Takes note of silence. A Thing that does not listen at all is silent too, so what is known
    /// stays.
    pub(super) fn unanswered(&mut self, was_composite: bool) {
        if was_composite && matches!(self, CompositeSupport::Untried(_)) {
            *self = CompositeSupport::Absent;
        }
    }

    /// Takes note of a refusal: the next format is tried after 4.06 and 4.15, and nothing more
    /// after anything else.
    pub(super) fn refused(&mut self, code: Code) {
        let wants_other = matches!(code, Code::NOT_ACCEPTABLE | Code::UNSUPPORTED_FORMAT);
        *self = match *self {
            CompositeSupport::Untried(at) if wants_other && at + 1 < COMPOSITE_FORMATS.len() => {
                CompositeSupport::Untried(at + 1)
            }
            _ => CompositeSupport::Absent,
        };
    }
}

/// One pass over resources.
#[derive(Debug)]
pub(super) struct ValueReads {
    resources: Vec<Resource>,
    found: Vec<FoundValue>,
    /// The request under way is a Read-Composite.
    is_composite: bool,
}

impl ValueReads {
    /// Starts to read. The values of `resources` name the types.
    pub(super) fn new(resources: Vec<Resource>) -> Self {
        Self {
            resources,
            found: Vec::new(),
            is_composite: false,
        }
    }

    /// True if the request under way is a Read-Composite.
    pub(super) fn is_composite(&self) -> bool {
        self.is_composite
    }

    /// The next request.
    pub(super) fn next(&mut self, composite: CompositeSupport) -> Option<Request> {
        let composite = composite.format().filter(|_| {
            let is_first = self.found.is_empty();
            is_first && self.resources.len() >= COMPOSITE_MIN
        });
        self.is_composite = composite.is_some();
        if let Some(format) = composite {
            return read_composite(self.resources.iter().map(|r| r.path.to_string()), format);
        }
        let resource = self.resources.get(self.found.len())?;
        Some(Request::get(&resource.path.to_string()))
    }

    /// Processes a response; the values of all resources once they are known.
    pub(super) fn answer(
        &mut self,
        reply: &TaskResponse<'_>,
        composite: &mut CompositeSupport,
    ) -> Option<Vec<FoundValue>> {
        let response = reply.response;
        if self.is_composite {
            let Some(values) = resource::read_all(response, &self.resources) else {
                composite.refused(response.code);
                return None;
            };
            if let Some(format) = composite.format() {
                *composite = CompositeSupport::Known(format);
            }
            // A composite read leaves out what it can't give.
            let values = values.into_iter().map(|value| match value {
                Some(value) => FoundValue::Value(value),
                None => FoundValue::Absent,
            });
            self.found = values.collect();
        } else if let Some(resource) = self.resources.get(self.found.len()) {
            let value = resource::read(response, resource.path, &resource.value);
            self.found.push(match value {
                Some(value) => FoundValue::Value(value),
                None if response.code == Code::NOT_FOUND => FoundValue::Absent,
                None => FoundValue::Unreadable,
            });
        }
        let is_complete = self.found.len() >= self.resources.len();
        is_complete.then(|| std::mem::take(&mut self.found))
    }
}

/// A Read-Composite of paths.
pub(super) fn read_composite(
    paths: impl Iterator<Item = String>,
    content_format: u16,
) -> Option<Request> {
    let body = resource::names(paths, content_format)?;
    let fetch = Request::new(Code::FETCH, "/").with_payload(content_format, body);
    Some(fetch.with_accept(content_format))
}
