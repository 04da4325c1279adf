// GGUF files from strangers: what is accepted lies inside the file, and parameters and tokenizer follow from it
// or are refused.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/invariant.h"
#include "format/gguf.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
  INVARIANT(descriptor >= 0);
  INVARIANT(write(descriptor, data, size) == static_cast<ssize_t>(size));
  try {
    const auto file = format::open_gguf("/proc/self/fd/" + std::to_string(descriptor));
    for (const auto& tensor : file.checkpoint.tensors)
      INVARIANT(tensor.offset_bytes <= size && tensor.extent_bytes <= size - tensor.offset_bytes);
    static_cast<void>(format::gguf_params(file));
    static_cast<void>(format::gguf_tokenizer(file));
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  close(descriptor);
  return 0;
}
