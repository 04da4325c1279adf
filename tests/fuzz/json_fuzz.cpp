// JSON from strangers: manifests, params.json, lines of a pipe.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/json.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // Any bytes at all can be written as a string.
  static_cast<void>(format::parse_json(format::Json(text).dump(), "string").as_string("string"));
  try {
    const format::Json json = format::parse_json(text, "fuzz");
    // What was accepted can be written in both ways, and reads back as the same.
    INVARIANT(format::parse_json(json.dump(), "again") == json);
    INVARIANT(format::parse_json(json.dump_pretty(), "again") == json);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
