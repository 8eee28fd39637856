// Products by matrix units, of SIDE x SIDE x SIDE: see units_8.wgsl and units_16.wgsl.
//
// A subgroup has a piece of 16 x 16 sums for each 8 of its threads, pieces counted along the rows or inputs and then
// along the tokens. How many threads that are is the driver's choice, and may be another for each kernel that it
// compiles: at least 8, LANES >> 16, and at most LANES & 0xffff. What does not depend on the choice is a constant here,
// or is one as soon as the driver has chosen: sums are registers then.

struct Thread {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
    @builtin(subgroup_size) lanes: u32,
}

const MOST_LANES = LANES & 0xffffu;
const LANES_ARE_KNOWN = LANES >> 16u == MOST_LANES;
// Products along the side of a piece.
const PARTS = 16u / SIDE;
// Most products of a subgroup: so many along the tokens, and so many across.
const MOST_DOWN = PARTS * max(MOST_LANES / 32u, 1u);
const MOST_ACROSS = PARTS * min(MOST_LANES / 8u, 4u);

var<private> sums: array<Sums, MOST_DOWN * MOST_ACROSS>;

// A subgroup's first piece.
fn first_piece(thread: Thread) -> u32 {
    return subgroupBroadcastFirst(thread.t) / 8u;
}

// Products of a subgroup along the tokens, and across.
fn products(thread: Thread) -> vec2<u32> {
    let pieces = select(thread.lanes, MOST_LANES, LANES_ARE_KNOWN) / 8u;
    return PARTS * vec2(max(pieces / 4u, 1u), min(pieces, 4u));
}

fn add_products(thread: Thread) {
    let first = first_piece(thread);
    let some = products(thread);
    for (var k = 0u; k < DEPTH; k += SIDE) {
        var a: array<Left, MOST_DOWN>;
        var more: array<Left, MOST_DOWN>;
        for (var down = 0u; down < some.x; down++) {
            let at = (16u * (first / 4u) + SIDE * down) * LINE + k;
            a[down] = coopLoadT<Left>(&left[at], LINE);
            more[down] = coopLoadT<Left>(&rest[at], LINE);
        }
        for (var across = 0u; across < some.y; across++) {
            let at = (16u * (first % 4u) + SIDE * across) * LINE + k;
            let b = coopLoad<Right>(&right[at], LINE);
            for (var down = 0u; down < some.x; down++) {
                let i = down * MOST_ACROSS + across;
                sums[i] = coopMultiplyAdd(a[down], b, coopMultiplyAdd(more[down], b, sums[i]));
            }
        }
    }
}

fn put(line: u32, thread: Thread) {
    let first = first_piece(thread);
    let some = products(thread);
    // Those of this line, by their number.
    for (var down = 0u; down < some.x; down++) {
        // A loop of one turn or none, as an `if` it would be taken for one that parts a subgroup's threads.
        for (var turn = first / 4u + down / PARTS; turn == line; turn += 4u) {
            for (var across = 0u; across < some.y; across++) {
                let at = SIDE * (down % PARTS) * TILE + 16u * (first % 4u) + SIDE * across;
                coopStoreT(sums[down * MOST_ACROSS + across], &tile[at], TILE);
            }
        }
    }
}

