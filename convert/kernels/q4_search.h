// The search for a q4 row's scale, sub-scales and codes. Included once by each kernel file, after lanes.h,
// inside its unnamed namespace.
//
// A group is turned so that its extreme weight is negative, and scaled so that it is -32000. Under a row
// scale r and a sub-scale of magnitude t the extreme weight is at code -a, a = size / (t * r), and every
// other weight at inputs * a / 32000. With a from 6.9 to 9 the extreme weight gets code -8, or -7 and the
// group a finer step; sub-scales of the other sign, which put +7 there, were never better (of 40,000 groups
// 7). Codes are worked on in units of 1/2048: kOne.
//
// Groups do not depend on each other once the row scale is fixed, so that the search is over that one number,
// and then by least squares. Short rows try a grid of it. In long ones the errors of hundreds of groups even
// out, and the best of a grid was no better than one value for all rows: 0.0738 of normal weights and 0.0919
// of Student's t (5 degrees) both ways, 0.082 with outliers of 6 times; of 25 times, 0.109 for 0.105.

constexpr int kOne = 2048;
constexpr int kShift = 5;  // 16 bits less those of kOne
constexpr float kExtreme = 32000;
constexpr float kFractionOfCode = 2048.0f * 32768.0f / kExtreme;  // a * this: the factor from input to code
constexpr float kCodeOfExtremeMax =
    11.9f;                         // more than size / (15 * r) of any r tried; sums of squares fit 32 bits
constexpr float kNothing = 1e-3f;  // a group of less is nothing but zeros, in units of row scales
constexpr float kRowScaleOfLongRows = 0.95f;
constexpr std::size_t kGridBlocksMax = 4;
constexpr int kMoreForEstimate = 1;
constexpr int kMoreForChoice = 3;

/// Sixteen groups side by side.
struct alignas(64) Q4Block {
  std::int16_t inputs[8][2 * kBlockGroups];  ///< pairs of inputs, the group's extreme weight being -32000
  float size[kBlockGroups];                  ///< of the extreme weight, the row's largest being 128
  float sign[kBlockGroups];                  ///< of the sub-scale: the opposite of the extreme weight's
};

/// A row's sums, a lane for each of sixteen groups: of w the weight in units, q its code times the sub-scale.
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

/// Sums of the squared errors of the groups, in steps / kOne. Codes below -8 are only cut off when asked for:
/// there are none for a <= 8.5.
template <bool kCutLow>
inline Ints code_errors(const Q4Block& block, std::size_t first, Floats a) {
  const Shorts factor = code_factor(a);
  Ints sum = {};
  for (std::size_t i = 0; i < 8; ++i) {
    const Shorts exact = multiply_fractions(load<Shorts>(&block.inputs[i][2 * first]), factor);
    // What is left of the nearest code: the low bits, with their sign.
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

/// The best sub-scales of groups under a row scale: the one that just fits, that below, and `kMore` above it.
template <int kMore>
inline Choice choose(const Q4Block& block, std::size_t first, float row_scale) {
  const Floats steps = load<Floats>(&block.size[first]) * (1.0f / row_scale);
  // -8 * -16 is no int8.
  const Floats largest = load<Floats>(&block.sign[first]) < 0.0f ? all(15) : all(16);
  Choice best = {all(3e38f), all(1)};
  const auto consider = [&](Floats magnitude, Ints sums, Ints is_candidate) {
    const Floats score = to_floats(sums) * (magnitude * magnitude);
    const Ints better = is_candidate & (score < best.score);
    best.score = better ? score : best.score;
    best.magnitude = better ? magnitude : best.magnitude;
  };
  // The smallest that does without codes below -8.
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

/// Squared error of a block under a row scale.
inline void add_scores(const Q4Block& block, float row_scale, float (&lanes)[kBlockGroups]) {
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes)
    add_to(&lanes[first], choose<kMoreForEstimate>(block, first, row_scale).score);
}

/// Where the least squares begin, in units of the row scale that just fits the row's largest weight.
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

/// Four nibbles of the first and four of the last half of eight columns, for each group a word.
inline Ints pack(Shorts a, Shorts b, Shorts c, Shorts d) {
  const Ints low = reinterpret_cast<Ints>(a + 8 + ((c + 8) << 4));
  const Ints high = reinterpret_cast<Ints>(b + 8 + ((d + 8) << 4));
  return (low & 0xff) | (low >> 8 & 0xff00) | (high & 0xff) << 16 | (high >> 8 & 0xff00) << 16;
}

/// The best sub-scales and codes of a block under a row scale.
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

/// The row scale that fits the integers best: <w, q> / <q, q>.
float fit(const RowSums& sums, float searched) {
  const double square = sum_lanes(sums.squares);
  if (square == 0) return searched;
  return static_cast<float>(sum_lanes(sums.products) / square);
}

/// Of (w - q r)^2 under the fitted scale r, by way of the small errors under the searched one.
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
