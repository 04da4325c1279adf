#include "tests/support/pth_writer.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "base/bytes.h"
#include "base/file.h"

namespace sluice::tests {
namespace {

using format::DType;

template <typename T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
}

// A CRC computed bit by bit, so that it checks the reader's.
std::uint32_t crc32_of(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

/// A part with everything that its two headers contain.
struct PlacedPart {
  const ZipPart* part = nullptr;
  std::uint32_t crc = 0;
  std::uint64_t length_bytes = 0;
  std::uint64_t header_offset = 0;
};

// Follows miniz: a number goes into the zip64 field, and its own field is saturated, only when it is too
// large or when the part asks for zip64.

constexpr std::uint64_t kSaturated = 0xFFFFFFFF;

bool wide(const PlacedPart& placed, std::uint64_t value) { return placed.part->zip64 || value >= kSaturated; }

bool has_zip64(const PlacedPart& placed) {
  return wide(placed, placed.length_bytes) || wide(placed, placed.header_offset);
}

std::uint32_t narrow(const PlacedPart& placed, std::uint64_t value) {
  return static_cast<std::uint32_t>(wide(placed, value) ? kSaturated : value);
}

std::string zip64_field(const PlacedPart& placed, std::uint64_t length_bytes) {
  std::string values;
  for (const auto value : {length_bytes, length_bytes, placed.header_offset}) {
    if (wide(placed, value)) put<std::uint64_t>(values, value);
  }
  if (values.empty()) return values;
  std::string field;
  put<std::uint16_t>(field, 1);
  put<std::uint16_t>(field, static_cast<std::uint16_t>(values.size()));
  return field + values;
}

void put_local_header(std::string& out, const PlacedPart& placed) {
  const ZipPart& part = *placed.part;
  const std::string& name = part.local_name.value_or(part.name);
  const bool descriptor = (part.flags & 8) != 0;
  std::string extra = zip64_field(placed, placed.length_bytes);
  const std::uint64_t unpadded = placed.header_offset + 30 + name.size() + extra.size() + 4;
  const auto padding = static_cast<std::uint16_t>((64 - unpadded % 64) % 64);
  extra += "FB";
  put<std::uint16_t>(extra, padding);
  extra.append(padding, 'Z');
  put<std::uint32_t>(out, 0x04034b50);
  put<std::uint16_t>(out, 0);
  put<std::uint16_t>(out, part.flags);
  put<std::uint16_t>(out, part.method);
  put<std::uint32_t>(out, 0);  // time and date
  put<std::uint32_t>(out, descriptor ? 0 : placed.crc);
  put<std::uint32_t>(out, descriptor ? 0 : narrow(placed, placed.length_bytes));
  put<std::uint32_t>(out, descriptor ? 0 : narrow(placed, placed.length_bytes));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(name.size()));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(extra.size()));
  out += name + extra;
}

void put_descriptor(std::string& out, const PlacedPart& placed) {
  if ((placed.part->flags & 8) == 0) return;
  put<std::uint32_t>(out, 0x08074b50);
  put<std::uint32_t>(out, placed.crc);
  for (int i = 0; i < 2; ++i) {
    if (has_zip64(placed)) {
      put<std::uint64_t>(out, placed.length_bytes);
    } else {
      put<std::uint32_t>(out, static_cast<std::uint32_t>(placed.length_bytes));
    }
  }
}

void put_central_header(std::string& out, const PlacedPart& placed) {
  const ZipPart& part = *placed.part;
  const std::uint64_t length_bytes = part.length_bytes.value_or(placed.length_bytes);
  const std::string extra = zip64_field(placed, length_bytes);
  put<std::uint32_t>(out, 0x02014b50);
  put<std::uint32_t>(out, 0);  // versions
  put<std::uint16_t>(out, part.flags);
  put<std::uint16_t>(out, part.method);
  put<std::uint32_t>(out, 0);  // time and date
  put<std::uint32_t>(out, placed.crc);
  put<std::uint32_t>(out, narrow(placed, length_bytes));
  put<std::uint32_t>(out, narrow(placed, length_bytes));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(part.name.size()));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(extra.size()));
  put<std::uint16_t>(out, 0);  // comment
  put<std::uint16_t>(out, 0);  // disk
  put<std::uint16_t>(out, 0);  // attributes
  put<std::uint32_t>(out, 0);
  put<std::uint32_t>(out, narrow(placed, placed.header_offset));
  out += part.name + extra;
}

void put_end(std::string& out, std::uint64_t count, std::uint64_t directory_offset, std::uint64_t end_offset,
             bool zip64_end) {
  const std::uint64_t directory_bytes = end_offset - directory_offset;
  if (zip64_end) {
    put<std::uint32_t>(out, 0x06064b50);
    put<std::uint64_t>(out, 44);
    put<std::uint16_t>(out, 0x031e);
    put<std::uint16_t>(out, 45);
    put<std::uint64_t>(out, 0);  // disks
    put<std::uint64_t>(out, count);
    put<std::uint64_t>(out, count);
    put<std::uint64_t>(out, directory_bytes);
    put<std::uint64_t>(out, directory_offset);
    put<std::uint32_t>(out, 0x07064b50);
    put<std::uint32_t>(out, 0);
    put<std::uint64_t>(out, end_offset);
    put<std::uint32_t>(out, 1);
  }
  put<std::uint32_t>(out, 0x06054b50);
  put<std::uint32_t>(out, 0);  // disks
  put<std::uint16_t>(out, static_cast<std::uint16_t>(count));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(count));
  put<std::uint32_t>(out, static_cast<std::uint32_t>(directory_bytes));
  put<std::uint32_t>(out, static_cast<std::uint32_t>(std::min<std::uint64_t>(directory_offset, 0xFFFFFFFF)));
  put<std::uint16_t>(out, 0);
}

/// The bytes of a file between two holes.
struct Run {
  std::uint64_t offset_bytes = 0;
  std::string bytes;

  [[nodiscard]] std::uint64_t end() const { return offset_bytes + bytes.size(); }
};

std::vector<Run> make_runs(const std::vector<ZipPart>& parts, bool zip64_end) {
  std::vector<Run> runs(1);
  std::vector<PlacedPart> placed;
  for (const ZipPart& part : parts) {
    placed.push_back(PlacedPart{.part = &part,
                                .crc = part.crc32 ? *part.crc32 : crc32_of(part.bytes),
                                .length_bytes = part.bytes.size() + part.hole_bytes,
                                .header_offset = runs.back().end()});
    put_local_header(runs.back().bytes, placed.back());
    runs.back().bytes += part.bytes;
    if (part.hole_bytes > 0)
      runs.push_back({.offset_bytes = runs.back().end() + part.hole_bytes, .bytes = {}});
    put_descriptor(runs.back().bytes, placed.back());
  }
  std::string& out = runs.back().bytes;
  const std::uint64_t directory_offset = runs.back().end();
  for (const PlacedPart& part : placed) put_central_header(out, part);
  put_end(out, parts.size(), directory_offset, runs.back().end(), zip64_end);
  return runs;
}

std::string_view storage_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return "torch\nDoubleStorage\n";
    case DType::f32: return "torch\nFloatStorage\n";
    case DType::f16: return "torch\nHalfStorage\n";
    case DType::bf16: return "torch\nBFloat16Storage\n";
    case DType::i64: return "torch\nLongStorage\n";
    case DType::i32: return "torch\nIntStorage\n";
    case DType::i16: return "torch\nShortStorage\n";
    case DType::i8: return "torch\nCharStorage\n";
    case DType::u8: return "torch\nByteStorage\n";
    case DType::boolean: return "torch\nBoolStorage\n";
    default: break;
  }
  throw std::logic_error("no such dtype");
}

/// Writes values as CPython's pickler does: everything except numbers is put into the memo and fetched from
/// there when it occurs again.
class Pickler final {
 public:
  std::string out = "\x80\x02";

  void global(std::string_view lines) {
    if (recall(lines)) return;
    out += 'c';
    out += lines;
    memoise(lines);
  }

  void text(std::string_view value) {
    const std::string key = "text " + std::string(value);
    if (recall(key)) return;
    out += 'X';
    put<std::uint32_t>(out, static_cast<std::uint32_t>(value.size()));
    out += value;
    memoise(key);
  }

  void number(std::uint64_t value) {
    if (value < 256) {
      out += 'K';
      put<std::uint8_t>(out, static_cast<std::uint8_t>(value));
    } else if (value < 65536) {
      out += 'M';
      put<std::uint16_t>(out, static_cast<std::uint16_t>(value));
    } else if (value < 0x80000000u) {
      out += 'J';
      put<std::uint32_t>(out, static_cast<std::uint32_t>(value));
    } else {
      out += "\x8a\x08";
      put<std::uint64_t>(out, value);
    }
  }

  void tuple(const std::vector<std::uint64_t>& items) {
    if (items.empty()) {
      out += ')';
      return;
    }
    if (items.size() > 3) out += '(';
    for (const std::uint64_t item : items) number(item);
    out += items.size() > 3 ? 't' : static_cast<char>(0x84 + items.size());
    memoise();
  }

  void empty_ordered_dict() {
    global("collections\nOrderedDict\n");
    out += ")R";
    memoise();
  }

  void tensor(const PthView& view) {
    global("torch._utils\n_rebuild_tensor_v2\n");
    out += "((";
    text("storage");
    global(storage_type(view.dtype));
    text(view.storage_key);
    text("cpu");
    number(view.storage_elements);
    out += 't';
    memoise();
    out += 'Q';
    number(view.offset_elements);
    tuple(view.shape);
    tuple(view.strides);
    out += '\x89';
    empty_ordered_dict();
    out += 't';
    memoise();
    out += 'R';
    memoise();
  }

  void parameter(const PthView& view) {
    global("torch._utils\n_rebuild_parameter\n");
    tensor(view);
    out += '\x89';
    empty_ordered_dict();
    out += '\x87';
    memoise();
    out += 'R';
    memoise();
  }

  void memoise(std::string_view key = {}) {
    if (!key.empty()) memo_.emplace(key, next_);
    indexed('q', 'r', next_++);
  }

 private:
  bool recall(std::string_view key) {
    const auto found = memo_.find(std::string(key));
    if (found == memo_.end()) return false;
    indexed('h', 'j', found->second);
    return true;
  }

  void indexed(char narrow_opcode, char wide_opcode, std::uint32_t index) {
    out += index < 256 ? narrow_opcode : wide_opcode;
    if (index < 256) {
      put<std::uint8_t>(out, static_cast<std::uint8_t>(index));
    } else {
      put<std::uint32_t>(out, index);
    }
  }

  std::map<std::string, std::uint32_t> memo_;
  std::uint32_t next_ = 0;
};

}  // namespace

std::string make_zip(const std::vector<ZipPart>& parts, bool zip64_end) {
  const auto runs = make_runs(parts, zip64_end);
  if (runs.size() != 1) throw std::logic_error("a zip file with holes is only written to disk");
  return runs.front().bytes;
}

void write_zip(const std::filesystem::path& path, const std::vector<ZipPart>& parts, bool zip64_end) {
  base::File file = base::File::create(path);
  for (const Run& run : make_runs(parts, zip64_end))
    file.write_at(run.offset_bytes, base::as_bytes(run.bytes));
}

void write_plainly(const std::filesystem::path& path, std::string_view bytes) {
  base::File::create(path).write_at(0, base::as_bytes(bytes));
}

std::string make_pickle(const std::vector<PthView>& views, StateDict kind) {
  Pickler pickler;
  const bool ordered = kind == StateDict::ordered || kind == StateDict::of_module;
  if (ordered) {
    pickler.empty_ordered_dict();
  } else {
    pickler.out += '}';
    pickler.memoise();
  }
  pickler.out += '(';
  for (const PthView& view : views) {
    pickler.text(view.name);
    kind == StateDict::parameters ? pickler.parameter(view) : pickler.tensor(view);
  }
  pickler.out += 'u';
  if (kind == StateDict::of_module) {
    pickler.out += '}';
    pickler.memoise();
    pickler.text("_metadata");
    pickler.empty_ordered_dict();
    pickler.text("");
    pickler.out += '}';
    pickler.memoise();
    pickler.text("version");
    pickler.number(1);
    pickler.out += "sssb";
  }
  return pickler.out + '.';
}

std::vector<std::uint64_t> row_major_strides(const format::Shape& shape) {
  std::vector<std::uint64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  return strides;
}

PthWriter& PthWriter::add(std::string name, format::DType dtype, format::Shape shape,
                          std::string_view bytes) {
  const std::uint64_t elements = bytes.size() / format::size_bytes(dtype);
  auto strides = row_major_strides(shape);
  views_.push_back(PthView{.name = std::move(name),
                           .dtype = dtype,
                           .storage_key = std::to_string(storages_.size()),
                           .storage_elements = elements,
                           .offset_elements = 0,
                           .shape = std::move(shape),
                           .strides = std::move(strides)});
  storages_.emplace_back(bytes);
  return *this;
}

PthWriter& PthWriter::add_strided(std::string name, format::DType dtype, format::Shape shape,
                                  std::vector<std::uint64_t> strides, std::uint64_t offset_elements,
                                  std::string_view bytes) {
  add(std::move(name), dtype, std::move(shape), bytes);
  views_.back().strides = std::move(strides);
  views_.back().offset_elements = offset_elements;
  return *this;
}

PthWriter& PthWriter::add_view(std::string name, format::Shape shape, std::vector<std::uint64_t> strides,
                               std::uint64_t offset_elements) {
  PthView view = views_.back();
  view.name = std::move(name);
  view.shape = std::move(shape);
  view.strides = std::move(strides);
  view.offset_elements = offset_elements;
  views_.push_back(std::move(view));
  return *this;
}

std::vector<ZipPart> PthWriter::parts() const {
  std::vector<ZipPart> parts;
  parts.push_back({.name = top_ + "/data.pkl", .bytes = make_pickle(views_, kind)});
  if (byteorder) parts.push_back({.name = top_ + "/byteorder", .bytes = "little"});
  std::map<std::string, std::size_t> sorted;  // as strings: 0, 1, 10, 11, .., 2
  for (std::size_t i = 0; i < storages_.size(); ++i) sorted.emplace(std::to_string(i), i);
  for (const auto& [key, index] : sorted)
    parts.push_back({.name = top_ + "/data/" + key, .bytes = storages_[index]});
  parts.push_back({.name = top_ + "/version", .bytes = "3\n"});
  return parts;
}

void PthWriter::write(const std::filesystem::path& path) const { write_plainly(path, to_bytes()); }

}  // namespace sluice::tests
