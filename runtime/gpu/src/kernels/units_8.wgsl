// Matrix units of 8 x 8 x 8: Apple's, and those that Mesa's software device pretends to have.

const SIDE = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

