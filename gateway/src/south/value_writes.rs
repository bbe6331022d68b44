//! The operations by which a Thing's resources get their values, from the one that changes most at
//! once to single writes, and the formats of each.

use super::value_reads::COMPOSITE_FORMATS;
use crate::coap::{Code, Request, format};
use crate::lwm2m::resource::{self, InstancePath, Resource};

/// Formats of one resource's value, in order, while the Thing refuses them (4.15).
const ONE_FORMATS: [u16; 5] = [
    format::TEXT,
    format::OCTETS,
    format::LWM2M_TLV,
    format::SENML_CBOR,
    format::SENML_JSON,
];
/// Formats of several values of an instance.
const INSTANCE_FORMATS: [u16; 3] = [format::LWM2M_TLV, format::SENML_CBOR, format::SENML_JSON];

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteKind {
    /// Create of an instance with its values.
    Create,
    /// Write-Composite over several instances, which changes all or nothing.
    Composite,
    /// Write (partial update) of an instance: its other resources stay.
    Update,
    /// Write (replace) of one resource.
    One,
    /// Delete of an instance that was created in vain.
    Delete,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueWrite {
    kind: WriteKind,
    /// The instance of a Create or Delete.
    instance: Option<InstancePath>,
    pub(super) resources: Vec<Resource>,
    /// Index of the format.
    format: usize,
}

/// What follows a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteAnswer {
    /// The values are written.
    Done,
    /// The same again, in another format.
    Again,
    /// In its place these, each of which changes less.
    Split(Vec<ValueWrite>),
    /// The Thing refuses it.
    Refused(String),
}

impl ValueWrite {
    fn new(kind: WriteKind, instance: Option<InstancePath>, resources: Vec<Resource>) -> Self {
        Self {
            kind,
            instance,
            resources,
            format: 0,
        }
    }

    /// The creation of an instance.
    pub(super) fn create(instance: InstancePath, resources: Vec<Resource>) -> Self {
        Self::new(WriteKind::Create, Some(instance), resources)
    }

    /// The deletion of an instance.
    pub(super) fn delete(instance: InstancePath) -> Self {
        Self::new(WriteKind::Delete, Some(instance), Vec::new())
    }

    /// The write of one resource.
    pub(super) fn one(resource: Resource) -> Self {
        Self::new(WriteKind::One, None, vec![resource])
    }

    /// The writes of resources in the order of their paths: as one, if they are of several
    /// instances and the Thing knows composite operations, else instance by instance.
    pub(super) fn of(resources: Vec<Resource>, composite: bool) -> Vec<Self> {
        let by_instance: Vec<_> = resources
            .chunk_by(|one, other| one.path.of == other.path.of)
            .map(<[Resource]>::to_vec)
            .collect();
        if composite && by_instance.len() > 1 {
            return vec![Self::new(WriteKind::Composite, None, resources)];
        }
        by_instance.into_iter().map(Self::of_instance).collect()
    }

    fn of_instance(mut resources: Vec<Resource>) -> Self {
        match resources.pop() {
            Some(only) if resources.is_empty() => Self::one(only),
            last => {
                resources.extend(last);
                Self::new(WriteKind::Update, None, resources)
            }
        }
    }

    /// The instance that it creates.
    pub(super) fn created(&self) -> Option<InstancePath> {
        self.instance.filter(|_| self.kind == WriteKind::Create)
    }

    fn formats(&self) -> &'static [u16] {
        match self.kind {
            WriteKind::One => &ONE_FORMATS,
            WriteKind::Composite => &COMPOSITE_FORMATS,
            WriteKind::Create | WriteKind::Update => &INSTANCE_FORMATS,
            WriteKind::Delete => &[],
        }
    }

    fn body(&self, content_format: u16) -> Option<Vec<u8>> {
        match (self.kind, self.instance, self.resources.first()) {
            (WriteKind::One, _, Some(resource)) => resource::write_one(resource, content_format),
            (WriteKind::Create, Some(instance), _) => {
                resource::create(instance, &self.resources, content_format)
            }
            _ => resource::write_all(&self.resources, content_format),
        }
    }

    /// The request; `None` if no format is left that can have the values.
    pub(super) fn request(&mut self) -> Option<Request> {
        let instance = self.instance.or(self.resources.first().map(|r| r.path.of));
        let instance = instance?;
        let request = match self.kind {
            WriteKind::Delete => return Some(Request::new(Code::DELETE, &instance.to_string())),
            WriteKind::Create => Request::new(Code::POST, &format!("/{}", instance.object)),
            WriteKind::Update => Request::new(Code::POST, &instance.to_string()),
            WriteKind::Composite => Request::new(Code::IPATCH, "/"),
            WriteKind::One => Request::new(Code::PUT, &self.resources.first()?.path.to_string()),
        };
        loop {
            let content_format = *self.formats().get(self.format)?;
            if let Some(body) = self.body(content_format) {
                return Some(request.with_payload(content_format, body));
            }
            self.format += 1;
        }
    }

    /// Processes the response. What changes several resources at once is divided when the Thing
    /// refuses it: it may not know the operation, and the parts show which value it does not take.
    pub(super) fn answer(&mut self, code: Code, text: &str) -> WriteAnswer {
        if code.is_success() {
            return WriteAnswer::Done;
        }
        let wants_other = matches!(
            code,
            Code::UNSUPPORTED_FORMAT | Code::NOT_ACCEPTABLE | Code::BAD_OPTION
        );
        if wants_other {
            self.format += 1;
            if self.request().is_some() {
                return WriteAnswer::Again;
            }
        }
        match self.kind {
            WriteKind::Composite => WriteAnswer::Split(Self::of(self.resources.clone(), false)),
            WriteKind::Update => {
                let resources = self.resources.iter().cloned();
                WriteAnswer::Split(resources.map(Self::one).collect())
            }
            WriteKind::Create | WriteKind::One | WriteKind::Delete => {
                WriteAnswer::Refused(format!("{}: {code} {text}", self.target()))
            }
        }
    }

    /// The path that it is about, for a person.
    pub(super) fn target(&self) -> String {
        let first = self.resources.first();
        match (self.kind, self.instance, first) {
            (WriteKind::Create | WriteKind::Delete, Some(instance), _) => instance.to_string(),
            (_, _, Some(resource)) => resource.path.to_string(),
            _ => "/".to_owned(),
        }
    }
}
