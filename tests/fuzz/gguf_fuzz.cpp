// GGUF files from strangers: what is accepted lies inside the file, and parameters and tokenizer follow from
// it or are refused. Damage in any of them has a name, or a reason why not.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/invariant.h"
#include "format/checkpoint_map.h"
#include "format/gguf/gguf.h"

using namespace sluice;

namespace {

void name_damage(const std::string& path, std::size_t size) {
  const auto map = format::map_damaged_checkpoint(path, [](auto, auto) { return false; });
  if (!map) return;
  INVARIANT(map->problem.empty() || map->tensors.empty());
  for (const auto& tensor : map->tensors) {
    static_cast<void>(format::touches(tensor, 0, size));
    static_cast<void>(format::touched_rows(tensor, size / 2, size));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
  INVARIANT(descriptor >= 0);
  INVARIANT(write(descriptor, data, size) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  name_damage(path, size);
  try {
    const auto file = format::open_gguf(path);
    for (const auto& tensor : file.tensors)
      INVARIANT(tensor.offset_bytes <= size && tensor.extent_bytes <= size - tensor.offset_bytes);
    static_cast<void>(format::gguf_params(file));
    static_cast<void>(format::gguf_tokenizer(file));
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  close(descriptor);
  return 0;
}
