// safetensors headers from strangers: the input is a whole file.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "format/safetensors.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = base::as_text(std::as_bytes(std::span(data, size)));
  constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
  if (size < kLengthBytes) return 0;
  const auto length = base::load_le<std::uint64_t>(base::as_bytes(bytes));
  if (length > size - kLengthBytes) return 0;
  try {
    const auto index = format::parse_safetensors(bytes.substr(kLengthBytes, length), size, "fuzz");
    // What was accepted fills the file behind the header, and nothing twice.
    std::uint64_t total_bytes = kLengthBytes + length;
    for (const format::CheckpointTensor& tensor : index.tensors) {
      INVARIANT(tensor.offset_bytes <= size && tensor.extent_bytes <= size - tensor.offset_bytes);
      INVARIANT(tensor.shape.size() == tensor.strides.size() && tensor.row_major());
      INVARIANT(index.find(tensor.name) == &tensor);
      total_bytes += tensor.extent_bytes;
    }
    INVARIANT(total_bytes == size);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
