//! Questions meet their annotations, in whatever order either comes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use graft_plugin::conversation::Conversation;
use graft_plugin::json::Node;
use graft_plugin::records::Record;
use graft_plugin::remarks::{Remarks, Trouble, skip};
use graft_plugin::{Error, Host, Location, Part, Role, Sink, Summary, Value, invalid_input};

use crate::Choices;
use crate::halves::{Annotation, Origin, Question, question_id};
use crate::names::ImageNames;

/// Bytes of halves that may wait for their counterpart.
const MOST_WAITING: usize = 128 << 20;
const SCOPE: &str = "vqa-v2";

/// The halves that wait, and what came of the others.
pub struct Pairing<'a> {
    choices: Choices,
    pub names: ImageNames,
    output: &'a mut dyn Sink,
    host: &'a dyn Host,
    questions: HashMap<String, Question>,
    annotations: HashMap<String, Annotation>,
    waiting_bytes: usize,
    summary: Summary,
    sources: Vec<Rc<str>>,
    /// Ids of questions that were of no use: their annotations are not orphans.
    useless: HashSet<String>,
    had_annotations: bool,
}

impl<'a> Pairing<'a> {
    pub fn new(
        choices: Choices,
        names: ImageNames,
        output: &'a mut dyn Sink,
        host: &'a dyn Host,
    ) -> Self {
        Self {
            choices,
            names,
            output,
            host,
            questions: HashMap::new(),
            annotations: HashMap::new(),
            waiting_bytes: 0,
            summary: Summary {
                records: 0,
                samples: 0,
                skipped: 0,
            },
            sources: Vec::new(),
            useless: HashSet::new(),
            had_annotations: false,
        }
    }

    /// A record that is not JSON.
    pub fn broken(&mut self) {
        self.summary.records += 1;
        self.summary.skipped += 1;
    }

    /// Takes a question.
    pub fn question(&mut self, node: Node<'_>, record: &Record) -> Result<(), Error> {
        self.summary.records += 1;
        let origin = self.origin(record);
        let id = match question_id(node) {
            Ok(id) => id,
            Err(trouble) => return self.useless(trouble, record),
        };
        let question = match Question::read(node, origin) {
            Ok(question) => question,
            Err(trouble) => {
                if let Some(annotation) = self.annotations.remove(&id) {
                    self.waiting_bytes -= annotation.bytes();
                }
                self.waiting_bytes += id.len() + size_of::<String>();
                self.useless.insert(id);
                return self.useless(trouble, record);
            }
        };
        if self.questions.contains_key(&id) {
            let message = format!("the question {id} came before: skipped");
            return self.useless(
                skip("duplicate-question", message, node.at(), "/question_id"),
                record,
            );
        }
        if let Some(annotation) = self.annotations.remove(&id) {
            self.waiting_bytes -= annotation.bytes();
            return self.pair(&id, question, annotation);
        }
        self.waiting_bytes += question.bytes();
        self.questions.insert(id, question);
        self.check_room(record)
    }

    /// Takes an annotation.
    pub fn annotation(&mut self, node: Node<'_>, record: &Record) -> Result<(), Error> {
        self.had_annotations = true;
        let origin = self.origin(record);
        let read = question_id(node).and_then(|id| {
            let annotation = Annotation::read(node, self.choices.by_majority, origin)?;
            Ok((id, annotation))
        });
        // Its question is counted, and named, when no answer comes.
        let (id, annotation) = match read {
            Ok(read) => read,
            Err(trouble) => return self.tell(trouble, &|at, field| record.location(at, field)),
        };
        if self.useless.contains(&id) {
            return Ok(());
        }
        if let Some(question) = self.questions.remove(&id) {
            self.waiting_bytes -= question.bytes();
            return self.pair(&id, question, annotation);
        }
        self.waiting_bytes += annotation.bytes();
        if let Some(before) = self.annotations.insert(id.clone(), annotation) {
            self.waiting_bytes -= before.bytes();
            let message = format!("the question {id} has two annotations: the first is left out");
            let trouble = skip("duplicate-annotation", message, node.at(), "/question_id");
            self.tell(trouble, &|at, field| record.location(at, field))?;
        }
        self.check_room(record)
    }

    /// Names what waited in vain.
    pub fn finish(mut self) -> Result<Summary, Error> {
        let mut questions: Vec<_> = std::mem::take(&mut self.questions).into_iter().collect();
        questions.sort_by_key(|(_, question)| question.origin.index());
        for (id, question) in questions {
            self.summary.skipped += 1;
            let hint = match self.had_annotations {
                true => "",
                false => "; there are no annotations at all: companion names their file",
            };
            let message = format!("the question {id} has no usable annotation: skipped{hint}");
            let locate = |_: usize, field: Option<&str>| question.origin.location(field);
            self.tell(skip("no-annotation", message, 0, ""), &locate)?;
        }
        let mut annotations: Vec<_> = std::mem::take(&mut self.annotations).into_iter().collect();
        annotations.sort_by_key(|(_, annotation)| annotation.origin.index());
        for (id, annotation) in annotations {
            self.summary.records += 1;
            self.summary.skipped += 1;
            let message = format!("there is no question {id} for this annotation: skipped");
            let locate = |_: usize, field: Option<&str>| annotation.origin.location(field);
            self.tell(skip("no-question", message, 0, "/question_id"), &locate)?;
        }
        Ok(self.summary)
    }

    /// Emits the sample of a question and its answers.
    fn pair(&mut self, id: &str, question: Question, annotation: Annotation) -> Result<(), Error> {
        let host = self.host;
        let locate = |_: usize, field: Option<&str>| question.origin.location(field);
        let remarks = Remarks {
            scope: SCOPE,
            host,
            locate: &locate,
        };
        match self.sample(id, &question, annotation, &remarks) {
            Ok(sample) => {
                self.summary.samples += 1;
                self.output.emit(sample)
            }
            Err(trouble) => {
                self.summary.skipped += 1;
                remarks.trouble(trouble)
            }
        }
    }

    fn sample(
        &self,
        id: &str,
        question: &Question,
        annotation: Annotation,
        remarks: &Remarks<'_>,
    ) -> Result<graft_plugin::Sample, Trouble> {
        let field = "/image_id";
        let Some(name) = self.names.of(&question.image_id) else {
            let message = "neither file says its data_subtype; say subtype or image_name";
            let at = Some(question.origin.location(Some(field)));
            return Err(Trouble::Stop(invalid_input(
                "vqa-v2-no-subtype",
                message,
                at,
            )));
        };
        let image = self.choices.images.find(&name, self.host, 0, field)?;
        let mut conversation = Conversation::new();
        let asked = self.choices.question.fill(|_| Some(&question.text));
        let content = vec![conversation.image(image), Part::Text(asked)];
        conversation.say(Role::User, content, 0, "/question");
        conversation.text(Role::Assistant, &annotation.answer, 0, "");
        let mut extra = Vec::new();
        if let Some(all) = annotation.all {
            extra.push(("answers".to_owned(), Value::Json(all)));
        }
        let kinds = annotation.kinds.into_iter();
        extra.extend(kinds.map(|(name, kind)| (name.to_owned(), Value::Text(kind))));
        conversation.extra = extra;
        conversation.finish(id.to_owned(), self.choices.system.as_deref(), remarks, 0)
    }

    fn useless(&mut self, trouble: Trouble, record: &Record) -> Result<(), Error> {
        self.summary.skipped += 1;
        self.tell(trouble, &|at, field| record.location(at, field))
    }

    fn tell(
        &self,
        trouble: Trouble,
        locate: &dyn Fn(usize, Option<&str>) -> Location,
    ) -> Result<(), Error> {
        let remarks = Remarks {
            scope: SCOPE,
            host: self.host,
            locate,
        };
        remarks.trouble(trouble)
    }

    fn check_room(&self, record: &Record) -> Result<(), Error> {
        if self.waiting_bytes <= MOST_WAITING {
            return Ok(());
        }
        let message = "questions and annotations are in so different an order that too many wait for each \
                       other; sort both by question_id";
        let at = Some(record.location(0, None));
        Err(invalid_input("vqa-v2-order", message, at))
    }

    fn origin(&mut self, record: &Record) -> Origin {
        let known = self
            .sources
            .iter()
            .find(|source| ***source == *record.source);
        let source = match known {
            Some(source) => source.clone(),
            None => {
                let source: Rc<str> = record.source.as_str().into();
                self.sources.push(source.clone());
                source
            }
        };
        Origin::of(record, source)
    }
}
