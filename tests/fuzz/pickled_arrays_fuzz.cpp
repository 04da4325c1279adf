// Pickled NumPy arrays from strangers, as Grok-1 was released in: the input is a whole file.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/invariant.h"
#include "format/grok/pickled_arrays.h"
#include "tests/support/temp_dir.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tests::TempDir folder(tests::fast_directory());
  auto file = base::File::create(folder / "input");
  file.write_at(0, std::as_bytes(std::span(data, size)));
  try {
    const auto opened = base::File::open_read(folder / "input");
    // The elements of what was accepted lie within the file.
    for (const format::PickledArray& array : format::read_pickled_arrays(opened)) {
      const std::uint64_t bytes =
          format::element_count(array.shape).value() * format::size_bytes(array.dtype);
      INVARIANT(array.offset_bytes <= size && bytes <= size - array.offset_bytes);
      INVARIANT(array.shape.size() == array.strides.size());
    }
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
