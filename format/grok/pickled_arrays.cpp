// An interpreter of the opcodes that Python's pickle writes for NumPy arrays (Lib/pickletools.py,
// numpy/core/src/multiarray/methods.c: array_reduce). Values are a variant without behaviour. Arrays and
// element types are built in two steps, REDUCE and then BUILD, so a value refers to them by an index, and a
// copy in the memo sees what BUILD has added. All counts are bounded: a file has a few dozen opcodes.

#include "format/grok/pickled_arrays.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace sluice::format {
namespace {

constexpr std::size_t kOpcodesMax = 1024;
constexpr std::size_t kTextBytesMax = 64;
constexpr std::size_t kAxesMax = 4;

enum class Tag : std::uint8_t { reconstruct, ndarray, dtype, bfloat16, quantized_weight };

struct KnownGlobal {
  std::string_view module;
  std::string_view name;
  Tag tag;
};

constexpr std::array kGlobals{
    KnownGlobal{"numpy.core.multiarray", "_reconstruct", Tag::reconstruct},
    KnownGlobal{"numpy._core.multiarray", "_reconstruct", Tag::reconstruct},
    KnownGlobal{"numpy", "ndarray", Tag::ndarray},
    KnownGlobal{"numpy", "dtype", Tag::dtype},
    KnownGlobal{"ml_dtypes", "bfloat16", Tag::bfloat16},
    KnownGlobal{"__main__", "QuantizedWeight8bit", Tag::quantized_weight},
};

struct ElementType {
  std::string_view code;  ///< numpy's, without the byte order
  DType dtype;
};
constexpr std::array kElementTypes{ElementType{"f4", DType::f32}, ElementType{"i1", DType::i8},
                                   ElementType{"bfloat16", DType::bf16}};

struct Mark {};
struct None {};
/// The elements of an array, or a byte string: where it lies in the file.
struct ByteRun {
  std::uint64_t offset_bytes;
  std::uint64_t length_bytes;
};
struct TypeRef {
  DType dtype;
};
struct ArrayRef {
  std::size_t index;
};
struct ObjectRef {};
struct Value;
using Tuple = std::vector<Value>;
/// Keys and values by turns.
struct Dict {
  Tuple items;
};
struct Value {
  std::variant<Mark, None, bool, std::int64_t, std::string, ByteRun, Tag, Tuple, Dict, TypeRef, ArrayRef,
               ObjectRef>
      is;
};

class ArrayPickle final {
 public:
  explicit ArrayPickle(const base::File& file) : file_(file), size_bytes_(file.size_bytes()) {}

  [[nodiscard]] std::vector<PickledArray> read() {
    for (std::size_t count = 0; count < kOpcodesMax; ++count) {
      opcode_offset_ = offset_;
      const auto opcode = static_cast<char>(number<std::uint8_t>());
      if ((count == 0) != (opcode == '\x80')) refuse("a pickle begins with its protocol, and only there");
      if (opcode == '.') return finish();
      execute(opcode);
    }
    refuse("more than " + std::to_string(kOpcodesMax) + " opcodes");
  }

 private:
  [[noreturn]] void refuse(const std::string& cause) const {
    base::throw_malformed(file_.path().string(), "offset " + std::to_string(opcode_offset_) + ": " + cause);
  }

  // ---- Bytes ----

  template <typename T>
  T number() {
    std::array<std::byte, sizeof(T)> bytes;
    if (size_bytes_ - offset_ < sizeof(T)) refuse("the pickle ends early");
    file_.read_exact_at(offset_, bytes);
    offset_ += sizeof(T);
    return base::load_le<T>(bytes);
  }

  std::string text(std::uint64_t length_bytes) {
    if (length_bytes > kTextBytesMax) refuse("a name of " + std::to_string(length_bytes) + " bytes");
    std::string found(static_cast<std::size_t>(length_bytes), '\0');
    if (size_bytes_ - offset_ < length_bytes) refuse("the pickle ends early");
    file_.read_exact_at(offset_, {reinterpret_cast<std::byte*>(found.data()), found.size()});
    offset_ += length_bytes;
    return found;
  }

  ByteRun skip(std::uint64_t length_bytes) {
    if (size_bytes_ - offset_ < length_bytes)
      refuse("an array of " + std::to_string(length_bytes) + " bytes in a file of " +
             std::to_string(size_bytes_));
    const ByteRun run{offset_, length_bytes};
    offset_ += length_bytes;
    return run;
  }

  // ---- The stack ----

  template <typename T>
  void push(T value) {
    stack_.push_back({std::move(value)});
  }

  Value pop() {
    if (stack_.empty()) refuse("the stack is empty");
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }

  template <typename T>
  T pop(std::string_view expected) {
    Value value = pop();
    T* found = std::get_if<T>(&value.is);
    if (found == nullptr) refuse("expected " + std::string(expected));
    return std::move(*found);
  }

  Tuple pop_to_mark() {
    const auto is_mark = [](const Value& value) { return std::holds_alternative<Mark>(value.is); };
    const auto found = std::find_if(stack_.rbegin(), stack_.rend(), is_mark);
    if (found == stack_.rend()) refuse("no mark on the stack");
    const auto first = found.base();
    Tuple values(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
    stack_.erase(first - 1, stack_.end());
    return values;
  }

  void push_tuple(std::size_t count) {
    Tuple values(count);
    for (std::size_t i = count; i-- > 0;) values[i] = pop();
    push(std::move(values));
  }

  void remember() {
    if (stack_.empty()) refuse("the stack is empty");
    memo_.push_back(stack_.back());
  }

  void recall(std::uint64_t index) {
    if (index >= memo_.size()) refuse("the memo has no entry " + std::to_string(index));
    stack_.push_back(memo_[static_cast<std::size_t>(index)]);
  }

  // ---- Opcodes, by their bytes in pickletools ----

  void execute(char opcode) {
    switch (opcode) {
      case '\x80': return read_protocol();
      case '\x95': return void(number<std::uint64_t>());  // FRAME: how much to read ahead
      case '\x94': return remember();
      case 'h': return recall(number<std::uint8_t>());
      case 'j': return recall(number<std::uint32_t>());
      case '(': return push(Mark{});
      case ')': return push(Tuple{});
      case 't': return push(pop_to_mark());
      case '\x85': return push_tuple(1);
      case '\x86': return push_tuple(2);
      case '\x87': return push_tuple(3);
      case '}': return push(Dict{});
      case 'u': return set_items();
      case 'N': return push(None{});
      case '\x88': return push(true);
      case '\x89': return push(false);
      case 'K': return push(std::int64_t{number<std::uint8_t>()});
      case 'M': return push(std::int64_t{number<std::uint16_t>()});
      case 'J': return push(std::int64_t{number<std::int32_t>()});
      case '\x8c': return push(text(number<std::uint8_t>()));
      case 'X': return push(text(number<std::uint32_t>()));
      case 'C': return push(skip(number<std::uint8_t>()));
      case 'B': return push(skip(number<std::uint32_t>()));
      case '\x8e': return push(skip(number<std::uint64_t>()));
      case '\x93': return find_global();
      case 'R': return reduce();
      case '\x81': return make_object();
      case 'b': return build();
      default: refuse("opcode " + std::to_string(static_cast<unsigned char>(opcode)) + " is not allowed");
    }
  }

  void read_protocol() {
    const auto protocol = number<std::uint8_t>();
    if (protocol != 4) refuse("pickle protocol " + std::to_string(protocol) + ", expected 4");
  }

  void find_global() {
    const auto name = pop<std::string>("the name of a global");
    const auto module = pop<std::string>("the module of a global");
    const auto found = std::ranges::find_if(
        kGlobals, [&](const KnownGlobal& known) { return known.module == module && known.name == name; });
    if (found == kGlobals.end())
      refuse("the global " + base::to_printable(module + " " + name) + " is not allowed");
    push(found->tag);
  }

  void set_items() {
    Tuple items = pop_to_mark();
    auto dict = pop<Dict>("a dict");
    if (items.size() % 2 != 0) refuse("a key without a value");
    std::ranges::move(items, std::back_inserter(dict.items));
    push(std::move(dict));
  }

  void reduce() {
    const auto arguments = pop<Tuple>("arguments");
    switch (pop<Tag>("a callable")) {
      case Tag::reconstruct:
        // numpy builds (ndarray, (0,), b"b"), whose place BUILD fills.
        if (arguments.size() != 3 || !is_tag(arguments[0], Tag::ndarray)) refuse("an array of another class");
        arrays_.emplace_back();
        return push(ArrayRef{arrays_.size() - 1});
      case Tag::dtype: return push(TypeRef{element_type(arguments)});
      default: refuse("a call that is not allowed");
    }
  }

  static bool is_tag(const Value& value, Tag tag) {
    const Tag* found = std::get_if<Tag>(&value.is);
    return found != nullptr && *found == tag;
  }

  /// dtype(code, align, copy), where the code is text or a class.
  DType element_type(const Tuple& arguments) const {
    if (arguments.empty()) refuse("an element type without a name");
    if (is_tag(arguments[0], Tag::bfloat16)) return DType::bf16;
    const auto* code = std::get_if<std::string>(&arguments[0].is);
    const auto found =
        code == nullptr ? kElementTypes.end() : std::ranges::find(kElementTypes, *code, &ElementType::code);
    if (found == kElementTypes.end())
      refuse("an element type" + (code == nullptr ? "" : " '" + base::to_printable(*code) + "'") +
             ", expected f4, i1 or bfloat16");
    return found->dtype;
  }

  void make_object() {
    if (!pop<Tuple>("arguments").empty() || pop<Tag>("a class") != Tag::quantized_weight)
      refuse("an object that is not allowed");
    push(ObjectRef{});
  }

  void build() {
    Value state = pop();
    if (stack_.empty()) refuse("the stack is empty");
    const Value target = stack_.back();
    if (const auto* array = std::get_if<ArrayRef>(&target.is))
      return build_array(arrays_[array->index], state);
    if (std::holds_alternative<TypeRef>(target.is)) return check_type_state(state);
    if (std::holds_alternative<ObjectRef>(target.is)) return build_object(state);
    refuse("a state for something that has none");
  }

  /// (version, byte order, ...): the rest follows from the type.
  void check_type_state(const Value& state) const {
    const auto* fields = std::get_if<Tuple>(&state.is);
    const auto* order =
        fields == nullptr || fields->size() < 2 ? nullptr : std::get_if<std::string>(&(*fields)[1].is);
    if (order == nullptr || (*order != "<" && *order != "|"))
      refuse("elements in another byte order, expected little-endian");
  }

  /// (version, shape, dtype, column-major, elements)
  void build_array(std::optional<PickledArray>& array, const Value& state) {
    const auto* fields = std::get_if<Tuple>(&state.is);
    if (array || fields == nullptr || fields->size() != 5) refuse("a state that is none of an array");
    const auto* axes = std::get_if<Tuple>(&(*fields)[1].is);
    const auto* type = std::get_if<TypeRef>(&(*fields)[2].is);
    const auto* column_major = std::get_if<bool>(&(*fields)[3].is);
    const auto* elements = std::get_if<ByteRun>(&(*fields)[4].is);
    if (axes == nullptr || type == nullptr || column_major == nullptr || elements == nullptr)
      refuse("a state that is none of an array");
    array.emplace();
    array->dtype = type->dtype;
    array->shape = shape_of(*axes);
    array->offset_bytes = elements->offset_bytes;
    const auto count = element_count(array->shape);
    if (!count || *count * size_bytes(type->dtype) != elements->length_bytes)
      refuse("an array of shape " + to_string(array->shape) + " and type " +
             std::string(to_string(type->dtype)) + " in " + std::to_string(elements->length_bytes) +
             " bytes");
    array->strides.resize(array->shape.size());
    std::uint64_t stride = 1;
    for (std::size_t i = 0; i < array->shape.size(); ++i) {
      const std::size_t axis = *column_major ? i : array->shape.size() - 1 - i;
      array->strides[axis] = stride;
      stride *= array->shape[axis];
    }
  }

  Shape shape_of(const Tuple& axes) const {
    if (axes.empty() || axes.size() > kAxesMax)
      refuse("an array of " + std::to_string(axes.size()) + " axes");
    Shape shape;
    for (const Value& axis : axes) {
      const auto* extent = std::get_if<std::int64_t>(&axis.is);
      if (extent == nullptr || *extent < 1) refuse("an extent that is no positive number");
      shape.push_back(static_cast<std::uint64_t>(*extent));
    }
    return shape;
  }

  void build_object(const Value& state) {
    const auto* dict = std::get_if<Dict>(&state.is);
    if (dict == nullptr || !named_.empty() || dict->items.size() != 4)
      refuse("a QuantizedWeight8bit without the arrays weight and scales");
    for (std::size_t i = 0; i < dict->items.size(); i += 2) {
      const auto* name = std::get_if<std::string>(&dict->items[i].is);
      const auto* array = std::get_if<ArrayRef>(&dict->items[i + 1].is);
      if (name == nullptr || array == nullptr || (*name != "weight" && *name != "scales"))
        refuse("a QuantizedWeight8bit without the arrays weight and scales");
      named_.push_back(array_at(*array));
      named_.back().name = *name;
    }
    if (named_[0].name == named_[1].name) refuse("a QuantizedWeight8bit with one array twice");
  }

  PickledArray array_at(ArrayRef array) const {
    if (!arrays_[array.index]) refuse("an array without elements");
    return *arrays_[array.index];
  }

  std::vector<PickledArray> finish() {
    const Value result = pop();
    if (!stack_.empty()) refuse("the pickle leaves more than one value");
    if (offset_ != size_bytes_)
      refuse("the pickle ends, and " + std::to_string(size_bytes_ - offset_) + " bytes follow");
    if (const auto* array = std::get_if<ArrayRef>(&result.is)) return {array_at(*array)};
    if (!std::holds_alternative<ObjectRef>(result.is) || named_.empty()) refuse("the pickle holds no array");
    return named_;
  }

  const base::File& file_;
  std::uint64_t size_bytes_;
  std::uint64_t offset_ = 0;
  std::uint64_t opcode_offset_ = 0;
  std::vector<Value> stack_;
  std::vector<Value> memo_;
  std::vector<std::optional<PickledArray>> arrays_;
  std::vector<PickledArray> named_;
};

}  // namespace

std::vector<PickledArray> read_pickled_arrays(const base::File& file) { return ArrayPickle(file).read(); }

}  // namespace sluice::format
