#include "tests/support/safetensors_writer.h"

#include <stdexcept>

#include "format/json.h"

namespace sluice::tests {
namespace {

const char* dtype_name(format::DType dtype) {
  switch (dtype) {
    case format::DType::f32: return "F32";
    case format::DType::f16: return "F16";
    case format::DType::bf16: return "BF16";
    case format::DType::f8_e4m3: return "F8_E4M3";
    case format::DType::i64: return "I64";
    case format::DType::i32: return "I32";
    case format::DType::u8: return "U8";
    default: throw std::logic_error("a dtype that no test writes");
  }
}

}  // namespace

std::string frame_safetensors(std::string_view header, std::string_view data) {
  std::string file;
  for (int byte = 0; byte < 8; ++byte)
    file.push_back(static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * byte)));
  return file.append(header).append(data);
}

std::string make_safetensors(const std::vector<RawTensor>& tensors) {
  auto header = format::Json::object({{"__metadata__", format::Json::object({{"format", "pt"}})}});
  std::string data;
  for (const RawTensor& tensor : tensors) {
    const std::size_t begin = data.size();
    data += tensor.bytes;
    header.set(tensor.name,
               format::Json::object({{"dtype", dtype_name(tensor.dtype)},
                                     {"shape", format::Json::array_of(tensor.shape)},
                                     {"data_offsets", format::Json::array({begin, data.size()})}}));
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return frame_safetensors(text, data);
}

std::string make_weight_map(const std::vector<std::pair<std::string, std::string>>& files_by_name) {
  auto map = format::Json::object();
  for (const auto& [name, file] : files_by_name) map.set(name, file);
  return format::Json::object({{"metadata", format::Json::object({{"total_size", 0}})}, {"weight_map", map}})
      .dump_pretty();
}

}  // namespace sluice::tests
