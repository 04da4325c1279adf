// Checkpoints from strangers: a whole zip file when the input begins like one, else the pickle in it.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "base/invariant.h"
#include "format/checkpoint_index.h"
#include "format/pickle.h"

using namespace sluice;

namespace {

/// The input as a file that exists only in memory.
class MemoryFile final {
 public:
  explicit MemoryFile(base::Bytes bytes) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    INVARIANT(descriptor_ >= 0);
    INVARIANT(write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const base::Bytes bytes = std::as_bytes(std::span(data, size));
  try {
    if (!base::as_text(bytes).starts_with("PK")) {
      static_cast<void>(format::read_state_dict(bytes, "fuzz"));
      return 0;
    }
    const MemoryFile file(bytes);
    const format::CheckpointIndex index = format::open_pth(file.path());
    // What was accepted lies inside the file.
    for (const format::CheckpointTensor& tensor : index.tensors) {
      INVARIANT(tensor.offset_bytes <= size && tensor.extent_bytes <= size - tensor.offset_bytes);
      INVARIANT(tensor.shape.size() == tensor.strides.size());
      INVARIANT(index.find(tensor.name) == &tensor);
    }
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
