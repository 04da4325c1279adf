// q4_rows_sums for instruction sets whose registers hold the weights of one row's products at the rate of
// memory: row by row. A kernel file includes this after it has defined q4_sums, inside its unnamed namespace.

template <std::size_t kRows>
inline void q4_rows_sums(const PanelView& panel, std::size_t first_group, std::size_t groups,
                         const std::int8_t* codes, std::size_t codes_stride, const std::int32_t* group_sums,
                         std::size_t group_stride, Sums* sums) {
  for (std::size_t r = 0; r < kRows; ++r)
    sums[r] = q4_sums(panel, first_group, groups, codes + r * codes_stride, group_sums + r, group_stride);
}
