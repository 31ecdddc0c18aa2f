//! Proofs that this CPU has an instruction set, and the macro that stamps one
//! scalar body for each of them.
//!
//! A kernel is written once, as an `#[inline(always)]` body in plain Rust. [`stamp!`](crate::stamp!)
//! compiles that body for each [`Level`] under its own target features. Rust never
//! reassociates or contracts floating-point arithmetic, so every level gives the same
//! bits as the scalar one by construction; the tests check it anyway.

/// Proof that this CPU has AVX2, FMA, F16C, BMI2 and POPCNT.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that this CPU has AVX-512 F, BW, DQ and VL (and everything of [`Avx2`]).
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The proof, where the CPU gives it.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("popcnt")
        {
            return Some(Self(()));
        }
        None
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// The proof, where the CPU gives it.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        if Avx2::detect().is_some()
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            return Some(Self(()));
        }
        None
    }
}

/// Proof that this CPU has AVX-512 VNNI and VBMI, and everything of [`Avx512`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vnni(Avx512);

#[cfg(target_arch = "x86_64")]
impl Vnni {
    /// The proof, where the CPU gives it.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        if std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512vbmi") {
            return Avx512::detect().map(Self);
        }
        None
    }

    /// That of the instructions below it.
    pub const fn avx512(self) -> Avx512 {
        self.0
    }
}

/// An instruction set that this CPU was seen to have.
///
/// NEON is part of the aarch64 baseline, so there the scalar body is the NEON kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust for the target's baseline: the definition of what files contain.
    Scalar,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The fastest level of this CPU.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(proof) = Avx512::detect() {
                return Self::Avx512(proof);
            }
            if let Some(proof) = Avx2::detect() {
                return Self::Avx2(proof);
            }
        }
        Self::Scalar
    }

    /// Every level of this CPU, slowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = [Avx2::detect().map(Self::Avx2), Avx512::detect().map(Self::Avx512)];
        #[cfg(not(target_arch = "x86_64"))]
        let more = [None; 0];
        core::iter::once(Self::Scalar).chain(more.into_iter().flatten())
    }

    /// The name that `niwaki devices` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar if cfg!(target_arch = "aarch64") => "neon",
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }
}

/// Compiles one `#[inline(always)]` body for every [`Level`].
///
/// ```
/// niwaki_codes::stamp! {
///     /// Adds one to every element.
///     pub fn add_one = add_one_body(x: &mut [f32]) -> ();
/// }
/// #[inline(always)]
/// fn add_one_body(x: &mut [f32]) {
///     x.iter_mut().for_each(|x| *x += 1.0);
/// }
/// let mut x = [1.0, 2.0];
/// add_one(niwaki_codes::simd::Level::best(), &mut x);
/// assert_eq!(x, [2.0, 3.0]);
/// ```
#[macro_export]
macro_rules! stamp {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the level comes on top of the body's own arguments")]
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) -> $ret {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2,popcnt")]
            fn avx2($($arg: $ty),*) -> $ret {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $ty),*) -> $ret {
                $body($($arg),*)
            }
            match level {
                $crate::simd::Level::Scalar => $body($($arg),*),
                // SAFETY: an `Avx2` is only made by `Avx2::detect`, which saw these features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2(_) => unsafe { avx2($($arg),*) },
                // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw these features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512(_) => unsafe { avx512($($arg),*) },
            }
        }
    };
}
