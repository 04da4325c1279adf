// Follows Lib/pickle.py: ops are collected in frames, each behind its length; a run of elements of 64 KiB or
// more ends the frame and stands outside of any. Strings, tuples, globals and arrays are remembered, and the
// second array refers to what the first one has named.

#include "tests/support/pickled_arrays.h"

#include <array>
#include <map>
#include <numeric>

#include "base/bytes.h"

namespace sluice::tests {
namespace {

using format::DType;

class Pickler final {
 public:
  PickledPieces write(const std::vector<ArrayToPickle>& arrays) {
    out_ = std::string("\x80\x04", 2);
    if (arrays.size() == 1) {
      array(arrays[0]);
    } else {
      global("__main__", "QuantizedWeight8bit");
      add(")\x81");
      remember();
      add("}");
      remember();
      add("(");
      text("weight");
      array(arrays[0]);
      text("scales");
      array(arrays[1]);
      add("ub");
    }
    add(".");
    end_frame();
    result_.pieces.push_back(std::move(out_));
    return std::move(result_);
  }

 private:
  void add(std::string_view bytes) { frame_ += bytes; }
  template <typename T>
  void number(std::string& to, T value) {
    std::array<std::byte, sizeof(T)> bytes;
    base::store_le(base::MutableBytes(bytes), 0, value);
    to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  std::size_t remember() {
    add("\x94");
    return memo_++;
  }
  void recall(std::size_t index) {
    add("h");
    number(frame_, static_cast<std::uint8_t>(index));
  }

  /// A text is written once, and remembered.
  void text(const std::string& value) {
    if (const auto found = texts_.find(value); found != texts_.end()) return recall(found->second);
    add("\x8c");
    number(frame_, static_cast<std::uint8_t>(value.size()));
    add(value);
    texts_[value] = remember();
  }

  void global(const std::string& module, const std::string& name) {
    if (const auto found = globals_.find(name); found != globals_.end()) return recall(found->second);
    text(module);
    text(name);
    add("\x93");
    globals_[name] = remember();
  }

  void integer(std::uint64_t value) {
    if (value < 256) {
      add("K");
      number(frame_, static_cast<std::uint8_t>(value));
    } else if (value < 65536) {
      add("M");
      number(frame_, static_cast<std::uint16_t>(value));
    } else {
      add("J");
      number(frame_, static_cast<std::uint32_t>(value));
    }
  }

  void array(const ArrayToPickle& array) {
    global("numpy.core.multiarray", "_reconstruct");
    global("numpy", "ndarray");
    add(std::string("K\0\x85", 3));
    remember();
    if (placeholder_) {
      recall(*placeholder_);
    } else {
      add(
          std::string("C\x01"
                      "b",
                      3));
      placeholder_ = remember();
    }
    add("\x87");
    remember();
    add("R");
    remember();
    add("(K\x01");
    const char* const tuples[] = {"\x85", "\x86", "\x87"};
    for (const std::uint64_t extent : array.shape) integer(extent);
    add(tuples[array.shape.size() - 1]);
    remember();
    element_type(array.dtype);
    add("\x89");
    elements(array);
    remember();
    add("t");
    remember();
    add("b");
  }

  void element_type(DType dtype) {
    global("numpy", "dtype");
    if (dtype == DType::bf16) {
      global("ml_dtypes", "bfloat16");
    } else {
      text(dtype == DType::f32 ? "f4" : "i1");
    }
    add("\x89\x88\x87");
    remember();
    add("R");
    remember();
    add("(K\x03");
    text(dtype == DType::i8 ? "|" : "<");
    add("NNN");
    if (dtype == DType::bf16) {
      add(std::string("K\x02K\x02K\x40", 6));
    } else {
      add(std::string("J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0", 12));
    }
    add("t");
    remember();
    add("b");
  }

  void elements(const ArrayToPickle& array) {
    const std::uint64_t bytes = format::element_count(array.shape).value() * format::size_bytes(array.dtype);
    constexpr std::uint64_t kOwnFrame = 64 * 1024;
    if (bytes >= kOwnFrame) end_frame();
    std::string& to = bytes >= kOwnFrame ? out_ : frame_;
    if (bytes < 256) {
      to += 'C';
      number(to, static_cast<std::uint8_t>(bytes));
    } else {
      to += 'B';
      number(to, static_cast<std::uint32_t>(bytes));
    }
    if (bytes >= kOwnFrame) {
      result_.pieces.push_back(std::move(out_));
      out_.clear();
    } else {
      cuts_.push_back(frame_.size());
      in_frame_bytes_ += bytes;
    }
    result_.element_bytes.push_back(bytes);
  }

  /// The length of a frame counts elements within it.
  void end_frame() {
    out_ += '\x95';
    number(out_, static_cast<std::uint64_t>(frame_.size() + in_frame_bytes_));
    std::size_t done = 0;
    for (const std::size_t cut : cuts_) {
      out_ += frame_.substr(done, cut - done);
      result_.pieces.push_back(std::move(out_));
      out_.clear();
      done = cut;
    }
    out_ += frame_.substr(done);
    frame_.clear();
    cuts_.clear();
    in_frame_bytes_ = 0;
  }

  PickledPieces result_;
  std::string out_;
  std::string frame_;
  std::vector<std::size_t> cuts_;  // where elements stand in the frame
  std::uint64_t in_frame_bytes_ = 0;
  std::size_t memo_ = 0;
  std::map<std::string, std::size_t> texts_;
  std::map<std::string, std::size_t> globals_;
  std::optional<std::size_t> placeholder_;
};

}  // namespace

std::uint64_t PickledPieces::size_bytes() const {
  std::uint64_t total = std::accumulate(element_bytes.begin(), element_bytes.end(), std::uint64_t{0});
  for (const std::string& piece : pieces) total += piece.size();
  return total;
}

std::string PickledPieces::joined(const std::vector<ArrayToPickle>& arrays) const {
  std::string all = pieces[0];
  for (std::size_t i = 0; i < arrays.size(); ++i) all += arrays[i].elements + pieces[i + 1];
  return all;
}

PickledPieces pickle_arrays(const std::vector<ArrayToPickle>& arrays) { return Pickler().write(arrays); }

std::string pickled(const std::vector<ArrayToPickle>& arrays) { return pickle_arrays(arrays).joined(arrays); }

}  // namespace sluice::tests
