// The search for a q4 row's scale, sub-scales and codes. Each kernel file includes this once, after
// lanes-inl.h and rows-inl.h, inside its unnamed namespace.
//
// A group's sign is flipped so that its extreme weight is negative, and the group is scaled so that the
// extreme weight is -32000. Under a row scale r and a sub-scale of magnitude t the extreme weight has the
// exact code -a with a = size / (t * r), and every other weight inputs * a / 32000. With a from 6.9 to 9 the
// extreme weight gets code -8, or -7 and the group a finer step. Sub-scales of the other sign, which put +7
// there, were better in only 7 of 40,000 groups. Exact codes are fixed-point numbers in units of 1/2048
// (kOne).
//
// Once the row scale is fixed, groups are independent, so the search is over that one number; the final row
// scale follows by least squares. Short rows try a grid of row scales. In long rows the errors of hundreds of
// groups average out, and the best of a grid was no better than one value for all rows: relative error 0.0738
// for normal weights and 0.0919 for Student's t (5 degrees of freedom) both ways, 0.082 with outliers of 6
// times the normal size; with outliers of 25 times, 0.109 instead of 0.105.

constexpr int kOne = 2048;
constexpr int kShift = 5;  // 16 bits less those of kOne
constexpr float kExtreme = 32000;
constexpr float kFractionOfCode = 2048.0f * 32768.0f / kExtreme;  // a * this is the factor from input to code
// More than size / (15 * r) of any r that is tried, and small enough for sums of squares to fit 32 bits.
constexpr float kCodeOfExtremeMax = 11.9f;
constexpr float kNothing = 1e-3f;  // a group whose extreme weight is smaller, in row scales, becomes zeros
constexpr float kRowScaleOfLongRows = 0.95f;
constexpr std::size_t kGridBlocksMax = 4;  // longer rows do not try a grid of row scales
constexpr int kMoreForEstimate = 1;        // larger sub-scales that choose() tries in the grid search
constexpr int kMoreForChoice = 3;          // and for the final codes

/// The sixteen groups of a block, side by side.
struct alignas(64) Q4Block {
  std::int16_t inputs[8][2 * kBlockGroups];  ///< pairs of inputs, scaled so that the extreme weight is -32000
  float size[kBlockGroups];                  ///< magnitude of the extreme weight; the row's largest is 128
  float sign[kBlockGroups];                  ///< sign of the sub-scale: the opposite of the extreme weight's
};

/// Sums over a row, one lane for each group of a block, with w the weight in units and q = code * sub-scale.
struct RowSums {
  float squared_weights[kBlockGroups] = {};  ///< w^2
  float products[kBlockGroups] = {};         ///< w q
  float squares[kBlockGroups] = {};          ///< q^2
  float errors[kBlockGroups] = {};           ///< (w / row scale - q)^2, in steps / kOne, as searched
};

inline void add_to(float* lanes, Floats values) { store(lanes, load<Floats>(lanes) + values); }

void prepare_block(const float* row, float inverse_unit, Q4Block& block, RowSums& sums) {
  alignas(64) float columns[16][kBlockGroups];  // [input][group]
  for (std::size_t half = 0; half < 2; ++half)
    for (std::size_t first = 0; first < kBlockGroups; first += 8)
      transpose_8x8(row + first * 16 + half * 8, 16, &columns[half * 8][first], kBlockGroups);
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes) {
    Floats weights[16];
    Floats most = all(0);
    Floats least = all(0);
    Floats squares = all(0);
    for (std::size_t i = 0; i < 16; ++i) {
      weights[i] = load<Floats>(&columns[i][first]) * inverse_unit;
      most = greater(most, weights[i]);
      least = lesser(least, weights[i]);
      squares += weights[i] * weights[i];
    }
    add_to(&sums.squared_weights[first], squares);
    const Ints positive = most > -least;
    const Floats size = positive ? most : -least;
    const Floats sign = positive ? all(-1) : all(1);
    const Ints nothing = size < kNothing;
    const Floats factor = nothing ? all(0) : sign * kExtreme / (nothing ? all(1) : size);
    for (std::size_t i = 0; i < 8; ++i) {
      const Ints even = to_ints(weights[2 * i] * factor);
      const Ints odd = to_ints(weights[2 * i + 1] * factor);
      store(&block.inputs[i][2 * first], in_pairs(even, odd));
    }
    store(&block.size[first], size);
    store(&block.sign[first], sign);
  }
}

/// The factor from inputs to codes when the extreme weight is at code -a.
inline Shorts code_factor(Floats a) {
  const Ints factor = to_ints(lesser(a, all(kCodeOfExtremeMax)) * kFractionOfCode);
  return in_pairs(factor, factor);
}

/// Sums of the squared errors of the groups, in steps / kOne. kCutLow clamps codes below -8, of which there
/// are none for a <= 8.5.
template <bool kCutLow>
inline Ints code_errors(const Q4Block& block, std::size_t first, Floats a) {
  const Shorts factor = code_factor(a);
  Ints sum = {};
  for (std::size_t i = 0; i < 8; ++i) {
    const Shorts exact = multiply_fractions(load<Shorts>(&block.inputs[i][2 * first]), factor);
    // The distance from the nearest code is the low bits, with their sign.
    Shorts error = exact << kShift >> kShift;
    error = greater(error, add_within(exact, all_shorts(-7 * kOne)));
    if (kCutLow) error = lesser(error, add_within(exact, all_shorts(8 * kOne)));
    sum += sum_products(error, error);
  }
  return sum;
}

struct Choice {
  Floats score;  // squared error in row scales and kOne
  Floats magnitude;
};

/// The best sub-scales of groups under a row scale, out of the smallest that needs no clamping, the one below
/// it and the `kMore` above it.
template <int kMore>
inline Choice choose(const Q4Block& block, std::size_t first, float row_scale) {
  const Floats steps = load<Floats>(&block.size[first]) * (1.0f / row_scale);
  // -8 * -16 = 128 does not fit an int8.
  const Floats largest = load<Floats>(&block.sign[first]) < 0.0f ? all(15) : all(16);
  Choice best = {all(3e38f), all(1)};
  const auto consider = [&](Floats magnitude, Ints sums, Ints is_candidate) {
    const Floats score = to_floats(sums) * (magnitude * magnitude);
    const Ints better = is_candidate & (score < best.score);
    best.score = better ? score : best.score;
    best.magnitude = better ? magnitude : best.magnitude;
  };
  // The smallest sub-scale that needs no code below -8.
  const Floats exact = steps * (1.0f / 8.5f);
  const Floats nearest = to_floats(to_ints(lesser(exact, all(17))));
  const Floats middle = greater(nearest < exact ? nearest + 1.0f : nearest, all(1));
  const Floats below = lesser(middle - 1.0f, largest);
  consider(below, code_errors<true>(block, first, steps / greater(below, all(1))), below >= 1.0f);
  for (int more = 0; more <= kMore; ++more) {
    const Floats magnitude = middle + static_cast<float>(more);
    consider(magnitude, code_errors<false>(block, first, steps / magnitude), magnitude <= largest);
  }
  return best;
}

/// Adds the squared errors of a block under a row scale to the lanes.
inline void add_scores(const Q4Block& block, float row_scale, float (&lanes)[kBlockGroups]) {
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes)
    add_to(&lanes[first], choose<kMoreForEstimate>(block, first, row_scale).score);
}

/// The row scale of a grid with the least error, in units of the row scale that just fits the row's largest
/// weight.
float find_row_scale(const Q4Block* blocks, std::size_t count) {
  constexpr int kGrid = 20;
  float best = 1;
  double best_error = 0;
  for (int i = 0; i < kGrid; ++i) {
    const float row_scale = 1.12f - 0.4f * static_cast<float>(i) / kGrid;
    float lanes[kBlockGroups] = {};
    for (std::size_t b = 0; b < count; ++b) add_scores(blocks[b], row_scale, lanes);
    const double error = sum_lanes(lanes) * static_cast<double>(row_scale) * static_cast<double>(row_scale);
    if (i == 0 || error < best_error) {
      best_error = error;
      best = row_scale;
    }
  }
  return best;
}

inline Shorts codes_of(const Q4Block& block, std::size_t first, std::size_t pair, Shorts factor) {
  const Shorts exact = multiply_fractions(load<Shorts>(&block.inputs[pair][2 * first]), factor);
  const Shorts code = multiply_fractions(exact, all_shorts(32768 / kOne));
  return greater(lesser(code, all_shorts(7)), all_shorts(-8));
}

/// Packs the codes of eight columns into a word for each group: the first quad in low nibbles, the second in
/// high ones.
inline Ints pack(Shorts a, Shorts b, Shorts c, Shorts d) {
  const Ints low = reinterpret_cast<Ints>(a + 8 + ((c + 8) << 4));
  const Ints high = reinterpret_cast<Ints>(b + 8 + ((d + 8) << 4));
  return (low & 0xff) | (low >> 8 & 0xff00) | (high & 0xff) << 16 | (high >> 8 & 0xff00) << 16;
}

/// Chooses the best sub-scales and codes of a block under a row scale.
void encode_block(const Q4Block& block, float row_scale, std::uint32_t* words, std::int8_t* sub_scales,
                  RowSums& sums) {
  std::uint32_t packed[2][kBlockGroups];
  float signed_magnitudes[kBlockGroups];
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes) {
    const Choice choice = choose<kMoreForChoice>(block, first, row_scale);
    const Floats size = load<Floats>(&block.size[first]);
    const Shorts factor = code_factor(size * (1.0f / row_scale) / choice.magnitude);
    Shorts codes[8];
    Ints product = {};
    Ints square = {};
    for (std::size_t i = 0; i < 8; ++i) {
      codes[i] = codes_of(block, first, i, factor);
      product += sum_products(load<Shorts>(&block.inputs[i][2 * first]), codes[i]);
      square += sum_products(codes[i], codes[i]);
    }
    add_to(&sums.products[first], to_floats(product) * (size * (1 / kExtreme)) * choice.magnitude);
    add_to(&sums.squares[first], to_floats(square) * (choice.magnitude * choice.magnitude));
    add_to(&sums.errors[first], choice.score);
    store(&packed[0][first], pack(codes[0], codes[1], codes[2], codes[3]));
    store(&packed[1][first], pack(codes[4], codes[5], codes[6], codes[7]));
    store(&signed_magnitudes[first], load<Floats>(&block.sign[first]) * choice.magnitude);
  }
  for (std::size_t g = 0; g < kBlockGroups; ++g) {
    words[2 * g] = packed[0][g];
    words[2 * g + 1] = packed[1][g];
    sub_scales[g] = static_cast<std::int8_t>(signed_magnitudes[g]);
  }
}

/// The row scale that fits the integers q best: <w, q> / <q, q>.
float fit(const RowSums& sums, float searched) {
  const double square = sum_lanes(sums.squares);
  if (square == 0) return searched;
  return static_cast<float>(sum_lanes(sums.products) / square);
}

/// The sum of (w - q r)^2 under the fitted scale r, computed from the small errors under the searched one,
/// because the difference of the large sums would lose digits.
double squared_error(const RowSums& sums, float searched, float fitted) {
  const double from = static_cast<double>(searched);
  const double to = static_cast<double>(fitted);
  const double as_searched = sum_lanes(sums.errors) * from * from / (kOne * kOne);
  const double moved = (to - from) * ((to + from) * sum_lanes(sums.squares) - 2 * sum_lanes(sums.products));
  return greater(as_searched + moved, 0.0);
}

float quantize_q4(const float* row, std::size_t block_count, std::uint32_t* words, std::int8_t* sub_scales,
                  RowError& error) {
  const std::size_t cols = block_count * kBlockCols;
  const float unit = largest_magnitude(row, cols) / 128;
  if (unit < kFloatMin) {
    for (std::size_t i = 0; i < cols / 8; ++i) words[i] = 0x88888888;
    for (std::size_t i = 0; i < cols / 16; ++i) sub_scales[i] = 1;
    error = {};
    return 0;
  }
  Q4Block blocks[kGridBlocksMax];
  RowSums sums;
  float searched = kRowScaleOfLongRows;
  if (block_count <= kGridBlocksMax) {
    for (std::size_t b = 0; b < block_count; ++b)
      prepare_block(row + b * kBlockCols, 1.0f / unit, blocks[b], sums);
    searched = find_row_scale(blocks, block_count);
  }
  for (std::size_t b = 0; b < block_count; ++b) {
    Q4Block& block = blocks[b % kGridBlocksMax];
    if (block_count > kGridBlocksMax) prepare_block(row + b * kBlockCols, 1.0f / unit, block, sums);
    encode_block(block, searched, words + b * 32, sub_scales + b * 16, sums);
  }
  const float row_scale = fit(sums, searched);
  const double to_weights = static_cast<double>(unit) * static_cast<double>(unit);
  error = {squared_error(sums, searched, row_scale) * to_weights,
           sum_lanes(sums.squared_weights) * to_weights};
  return row_scale * unit;
}
