#pragma once
// Reads golden numbers: JSON files and arrays of numpy.

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/json.h"
#include "text/text.h"

namespace sluice::tests {

inline format::Json read_golden(const std::filesystem::path& path) {
  return format::parse_json(base::read_text_file(path), path.filename().string());
}

inline std::vector<text::TokenId> golden_ids(const format::Json& array) {
  std::vector<text::TokenId> ids;
  for (const format::Json& id : array.as_array("golden"))
    ids.push_back(static_cast<text::TokenId>(id.as_uint("golden")));
  return ids;
}

/// The floats of a .npy file: version 1, little-endian f4, C order.
inline std::vector<float> read_npy(const std::filesystem::path& path) {
  const auto bytes = base::read_file(path);
  const std::size_t data = 10 + base::load_le<std::uint16_t>(bytes, 8);
  const auto header = base::as_text(base::Bytes(bytes).first(data));
  REQUIRE(header.find("'descr': '<f4'") != std::string_view::npos);
  REQUIRE(header.find("'fortran_order': False") != std::string_view::npos);
  std::vector<float> values((bytes.size() - data) / 4);
  std::memcpy(values.data(), bytes.data() + data, values.size() * 4);
  return values;
}

}  // namespace sluice::tests
