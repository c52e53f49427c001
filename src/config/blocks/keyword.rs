//! A keyword: its form, and what it does here.

/// A keyword of a block.
#[derive(Clone, Copy, Debug)]
pub struct Keyword {
    /// As it is written.
    pub name: &'static str,
    /// What follows it.
    pub form: Form,
    /// What it does.
    pub effect: Effect,
    /// Who reads it; of the keywords of a block those of the block itself.
    pub passes: Passes,
}

/// What follows a keyword.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Words, at least so many; with fewer nothing can run.
    Words(usize),
    /// As [`Form::Words`], with quotes and escapes of programs.
    Program(usize),
    /// A block of lines.
    List,
    /// A name, then a block of lines.
    NamedList,
    /// A block of keywords.
    Block(&'static [Keyword]),
    /// A block of keywords, with words after its own.
    Named(&'static [Keyword], Naming),
}

/// The name of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// Without one the block is passed over, with these words.
    Wanted(&'static str),
    /// The same, and a second one of a name is passed over, with `WORDS NAME already defined`.
    Unique(&'static str, &'static str),
    /// Without one nothing can run.
    Needed,
}

/// What a keyword does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// What it does in keepalived.
    Works,
    /// Nothing: it is accepted, and a hint says why.
    Nothing(&'static str),
}

/// A reading of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Pass {
    /// `global_defs` and what stands outside blocks.
    Global = 1,
    /// Instances, groups, what they track.
    Vrrp = 2,
    /// Services.
    Checkers = 4,
    /// BFD.
    Bfd = 8,
}

impl Pass {
    /// All of them, in the order in which they read.
    pub const ALL: [Pass; 4] = [Pass::Global, Pass::Vrrp, Pass::Checkers, Pass::Bfd];
}

/// A set of [`Pass`]es.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passes(pub u8);

impl Passes {
    /// True when the pass is one of them.
    pub const fn has(self, pass: Pass) -> bool {
        self.0 & pass as u8 != 0
    }
}

/// Every pass.
pub const EVERY: Passes = Passes(15);
/// [`Pass::Global`]
pub const GLOBAL: Passes = Passes(1);
/// [`Pass::Vrrp`]
pub const VRRP: Passes = Passes(2);
/// [`Pass::Checkers`]
pub const CHECKERS: Passes = Passes(4);
/// [`Pass::Vrrp`] and [`Pass::Checkers`]
pub const BOTH: Passes = Passes(6);

impl Keyword {
    /// A keyword with words.
    pub const fn words(name: &'static str, least: usize) -> Self {
        Self { name, form: Form::Words(least), effect: Effect::Works, passes: EVERY }
    }

    /// A keyword with a program.
    pub const fn program(name: &'static str, least: usize) -> Self {
        Self { name, form: Form::Program(least), effect: Effect::Works, passes: EVERY }
    }

    /// A keyword that has no effect.
    pub const fn idle(name: &'static str, least: usize, why: &'static str) -> Self {
        Self { name, form: Form::Words(least), effect: Effect::Nothing(why), passes: EVERY }
    }

    /// A block of lines.
    pub const fn list(name: &'static str) -> Self {
        Self { name, form: Form::List, effect: Effect::Works, passes: EVERY }
    }

    /// A block of lines with a name.
    pub const fn named_list(name: &'static str) -> Self {
        Self { name, form: Form::NamedList, effect: Effect::Works, passes: EVERY }
    }

    /// A block of keywords.
    pub const fn block(name: &'static str, keywords: &'static [Keyword]) -> Self {
        Self { name, form: Form::Block(keywords), effect: Effect::Works, passes: EVERY }
    }

    /// A block of keywords with words.
    pub const fn named(name: &'static str, keywords: &'static [Keyword], naming: Naming) -> Self {
        Self { name, form: Form::Named(keywords, naming), effect: Effect::Works, passes: EVERY }
    }

    /// The same keyword, read by some.
    pub const fn read_by(mut self, passes: Passes) -> Self {
        self.passes = passes;
        self
    }

    /// The same keyword, without effect.
    pub const fn without_effect(mut self, why: &'static str) -> Self {
        self.effect = Effect::Nothing(why);
        self
    }

    /// The keywords of its block.
    pub const fn keywords(&self) -> &'static [Keyword] {
        match self.form {
            Form::Block(keywords) | Form::Named(keywords, _) => keywords,
            _ => &[],
        }
    }
}
