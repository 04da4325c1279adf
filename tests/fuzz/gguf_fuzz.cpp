// GGUF files from strangers: what is accepted lies inside the file and can be read, blocks included; split
// keys, parameters and tokenizer follow from it or are refused. Damage in any of them has a name, or a reason
// why not.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/invariant.h"
#include "format/checkpoint_map.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_split.h"
#include "format/tensor_source.h"

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

/// Reads the first row of a tensor as floats or refuses its values.
void read_row(const format::CheckpointTensor& tensor, const base::File& file) {
  if (format::block_weights(tensor.dtype) == 1) return;
  format::TensorView view;
  view.name = tensor.name;
  view.shape = {1, tensor.shape.back()};
  view.stored_dtype = tensor.dtype;
  view.offset_bytes = tensor.offset_bytes;
  view.row_stride = tensor.shape.back();
  const format::TensorSource source(view, file);
  std::vector<std::byte> bytes;
  source.read_rows(0, 1, bytes);
  std::vector<float> values(tensor.shape.back());
  source.to_floats(bytes, 0, values);
}

void read_model(const format::CheckpointIndex& file) {
  try {
    const auto config = format::gguf_config(file);
    format::validate(config.description, "described");
    INVARIANT(format::description_from_json(format::to_json(config.description), "again") ==
              config.description);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
}

void read_tokenizer(const format::CheckpointIndex& file) {
  static_cast<void>(format::gguf_token_facts(file));
  static_cast<void>(format::gguf_chat_template(file));
  if (format::gguf_tokenizer_kind(file) == format::TokenizerKind::sentencepiece) {
    static_cast<void>(format::gguf_tokenizer(file));
  } else {
    static_cast<void>(format::parse_json(format::gguf_tokenizer_json(file), "again"));
    static_cast<void>(format::parse_json(format::gguf_tokenizer_config(file), "again"));
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
    format::check_gguf_split({file});
    for (const auto& tensor : file.tensors)
      INVARIANT(tensor.offset_bytes <= size && tensor.extent_bytes <= size - tensor.offset_bytes);
    const auto content = base::File::open_read(path);
    for (const auto& tensor : file.tensors) read_row(tensor, content);
    read_model(file);
    read_tokenizer(file);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  try {
    const auto file = format::open_gguf(path);
    format::check_gguf_split({file, file});
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  close(descriptor);
  return 0;
}
