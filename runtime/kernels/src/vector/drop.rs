//! Dropout, element by element.

use crate::ops::dropout::Dropout;

#[inline(always)]
pub(crate) fn forward(y: &mut [f32], x: &[f32], dropout: &Dropout) {
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        *y = x * dropout.factor(i);
    }
}

#[inline(always)]
pub(crate) fn backward(dx: &mut [f32], dy: &[f32], dropout: &Dropout) {
    for (i, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
        *dx += dy * dropout.factor(i);
    }
}
