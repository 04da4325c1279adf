// Kernels on whole rows: widening, q8, q6, and interleaving into a panel. Each kernel file includes this
// once, after lanes-inl.h, inside its unnamed namespace.

constexpr float kFloatMin = 1.17549435e-38f;  // subnormal scales would lose digits: such rows become zero

/// Adds the lanes in an order that is the same for all instruction sets.
inline double sum_lanes(const float (&lanes)[kBlockGroups]) {
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

float largest_magnitude(const float* row, std::size_t cols) {
  std::int32_t most = 0;  // positive floats are ordered as their bits are
  for (std::size_t i = 0; i < cols; ++i) {
    std::int32_t bits;
    __builtin_memcpy(&bits, row + i, sizeof(bits));
    bits &= 0x7fffffff;
    most = bits > most ? bits : most;
  }
  float result;
  __builtin_memcpy(&result, &most, sizeof(result));
  return result;
}

bool finite_bf16(const std::uint16_t* bits, std::size_t count) {
  std::uint16_t most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<std::uint16_t>(bits[i] & 0x7fff);
    most = magnitude > most ? magnitude : most;
  }
  return most < 0x7f80;
}

bool widen_bf16(const std::uint16_t* bits, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits[i]) << 16;
    __builtin_memcpy(out + i, &wide, sizeof(wide));
  }
  return finite_bf16(bits, count);
}

/// Quantizes sixteen weights. Errors and squares are in units of the scale, where no square can overflow, and
/// are summed lane by lane.
inline void quantize_q8_block(const float* weights, float inverse, std::int8_t* codes,
                              float (&errors)[kBlockGroups], float (&squares)[kBlockGroups]) {
  std::int32_t rounded[kBlockGroups];
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes) {
    const Floats exact = load<Floats>(weights + first) * inverse;
    const Ints code = to_ints(greater(lesser(exact, all(127)), all(-127)));
    const Floats error = exact - to_floats(code);
    store(&errors[first], load<Floats>(&errors[first]) + error * error);
    store(&squares[first], load<Floats>(&squares[first]) + exact * exact);
    store(&rounded[first], code);
  }
  for (std::size_t i = 0; i < kBlockGroups; ++i) codes[i] = static_cast<std::int8_t>(rounded[i]);
}

float quantize_q8(const float* row, std::size_t cols, std::int8_t* codes, RowError& error) {
  const float scale = largest_magnitude(row, cols) / 127.0f;
  const bool nothing = scale < kFloatMin;
  const float inverse = nothing ? 0 : 1.0f / scale;
  float errors[kBlockGroups] = {};
  float squares[kBlockGroups] = {};
  std::size_t i = 0;
  for (; i + kBlockGroups <= cols; i += kBlockGroups)
    quantize_q8_block(row + i, inverse, codes + i, errors, squares);
  if (i < cols) {
    float rest[kBlockGroups] = {};
    std::int8_t rest_codes[kBlockGroups];
    __builtin_memcpy(rest, row + i, (cols - i) * sizeof(float));
    quantize_q8_block(rest, inverse, rest_codes, errors, squares);
    __builtin_memcpy(codes + i, rest_codes, cols - i);
  }
  const double to_weights = static_cast<double>(scale) * static_cast<double>(scale);
  error = {sum_lanes(errors) * to_weights, sum_lanes(squares) * to_weights};
  return nothing ? 0 : scale;
}

/// Finds the largest magnitude of each of sixteen groups.
inline void group_maxima(const float* weights, float (&maxima)[kBlockGroups]) {
  alignas(64) float columns[16][kBlockGroups];  // [input][group]
  for (std::size_t half = 0; half < 2; ++half)
    for (std::size_t first = 0; first < kBlockGroups; first += 8)
      transpose_8x8(weights + first * 16 + half * 8, 16, &columns[half * 8][first], kBlockGroups);
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes) {
    Floats most = all(0);
    for (const auto& column : columns) {
      const Floats weight = load<Floats>(&column[first]);
      most = greater(most, greater(weight, -weight));
    }
    store(&maxima[first], most);
  }
}

/// The smallest sub-scale with which no code leaves [-32, 31] by more than rounding. `most` is the group's
/// largest magnitude in units of the row scale.
inline int sub_scale_of_q6(float most) { return 1 + (most > 31.5f) + (most > 63.0f) + (most > 94.5f); }

inline void quantize_q6_group(const float* weights, float inverse, int sub_scale, std::uint8_t* codes,
                              float (&errors)[kBlockGroups], float (&squares)[kBlockGroups]) {
  const float step = static_cast<float>(sub_scale);
  const float fraction = 1.0f / step;
  std::int32_t stored[kBlockGroups];
  for (std::size_t first = 0; first < kBlockGroups; first += kLanes) {
    const Floats exact = load<Floats>(weights + first) * inverse;
    const Ints code = to_ints(greater(lesser(exact * fraction, all(31)), all(-32)));
    const Floats error = exact - to_floats(code) * step;
    store(&errors[first], load<Floats>(&errors[first]) + error * error);
    store(&squares[first], load<Floats>(&squares[first]) + exact * exact);
    store(&stored[first], code + 32);
  }
  for (std::size_t i = 0; i < kBlockGroups; ++i) codes[i] = static_cast<std::uint8_t>(stored[i]);
}

/// The row scale puts the row's largest weight at 31.5 times the largest sub-scale, 4.
float quantize_q6(const float* row, std::size_t block_count, std::uint8_t* codes, std::int8_t* sub_scales,
                  RowError& error) {
  const float scale = largest_magnitude(row, block_count * kBlockCols) / 126.0f;
  const bool nothing = scale < kFloatMin;
  const float inverse = nothing ? 0 : 1.0f / scale;
  float errors[kBlockGroups] = {};
  float squares[kBlockGroups] = {};
  for (std::size_t block = 0; block < block_count; ++block) {
    const float* const weights = row + block * kBlockCols;
    float maxima[kBlockGroups];
    group_maxima(weights, maxima);
    for (std::size_t group = 0; group < kBlockGroups; ++group) {
      const int sub_scale = sub_scale_of_q6(maxima[group] * inverse);
      sub_scales[block * kBlockGroups + group] = static_cast<std::int8_t>(sub_scale);
      quantize_q6_group(weights + group * 16, inverse, sub_scale, codes + block * kBlockCols + group * 16,
                        errors, squares);
    }
  }
  const double to_weights = static_cast<double>(scale) * static_cast<double>(scale);
  error = {sum_lanes(errors) * to_weights, sum_lanes(squares) * to_weights};
  return nothing ? 0 : scale;
}

void interleave(const std::uint32_t* words, std::size_t stride, std::size_t steps, std::byte* out) {
  // Words are moved as floats: moving does not change their bits.
  std::size_t step = 0;
  for (; step + 8 <= steps; step += 8) {
    alignas(64) float turned[8][kInterleaveRows];
    for (std::size_t row = 0; row < kInterleaveRows; row += 8)
      transpose_8x8(reinterpret_cast<const float*>(words + row * stride + step), stride, &turned[0][row],
                    kInterleaveRows);
    for (std::size_t i = 0; i < 8; ++i)
      __builtin_memcpy(out + (step + i) * 256, turned[i], sizeof(turned[i]));
  }
  for (; step < steps; ++step)
    for (std::size_t row = 0; row < kInterleaveRows; ++row)
      __builtin_memcpy(out + step * 256 + row * 4, words + row * stride + step, sizeof(std::uint32_t));
}
