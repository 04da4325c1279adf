// The data-only pickle machine. Like Python's it has a stack, marks and a memo, but values are of a closed
// variant: numbers, texts, tuples, dicts, tags for globals, storages and tensors.
//
// A pickle is a program, and Python's own machine lets it import and call anything. This one knows only the
// opcodes that torch.save writes for a state dict (protocol 2), and calls nothing: each permitted "call" is a
// pattern that is replaced by a value. Everything else is an error, not a warning, because a partly
// understood pickle could describe other tensors than torch would load.
//
// All values live in one list and are referred to by index, so that a value in the memo, on the stack and in
// a dict is one object and its copies cost nothing. That keeps memo bombs harmless: opcodes cost time and
// memory in proportion to their bytes, and limits bound values, marks, strings and axes. Tuples are inspected
// only as deep as the phrases of torch.save need, never recursively. Errors name the offset of the opcode.
// Runs on the caller's thread.

#include "format/pickle.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "base/ascii.h"
#include "base/error.h"
#include "base/text.h"
#include "format/pickle_globals.h"
#include "format/pickle_stream.h"

namespace sluice::format {
namespace {

// A release of 1,739 tensors makes about 20,000 values of about 100 bytes each.
constexpr std::size_t kValuesMax = 1u << 20;
// State dicts nest a few marks deep, and their tensors have a few axes; both bounds leave ample room.
constexpr std::size_t kMarksMax = 64;
constexpr std::size_t kRankMax = 16;

/// Index of a value in the machine's list of all values. An object that is reached twice has one index.
using Ref = std::uint32_t;

using Global = PickleGlobal;
using Tag = PickleTag;

struct None {};
struct Text {
  std::string_view bytes;  ///< a view into the pickle
};
struct Tuple {
  std::vector<Ref> items;
};
struct Dict {
  bool ordered = false;  ///< made by OrderedDict: BUILD may set its attributes
  // In the order of the pickle; `keys` only finds duplicates, of which Python would silently keep the last.
  std::vector<std::pair<std::string_view, Ref>> members;
  std::set<std::string_view> keys;
};
struct Storage {
  DType dtype = DType::f32;
  std::string_view key;
  std::uint64_t elements = 0;
};
struct Tensor {
  Storage storage;
  std::uint64_t offset_elements = 0;
  Shape shape;
  std::vector<std::uint64_t> strides;
};
using Value = std::variant<None, bool, std::int64_t, Text, Tuple, Dict, const Global*, Storage, Tensor>;

// In the order of the variant's alternatives.
constexpr std::array<std::string_view, std::variant_size_v<Value>> kValueNames{
    "None",   "a truth value", "a number",  "a string", "a tuple",
    "a dict", "a global",      "a storage", "a tensor"};

std::string_view kind_of(const Value& value) { return kValueNames[value.index()]; }

std::string quote(std::string_view text) { return "'" + base::to_printable(text.substr(0, 200)) + "'"; }

/// The key becomes part of a zip member's name, so it must not contain '/' or "..".
bool is_storage_key(std::string_view key) {
  const auto plain = [](char c) { return base::is_alphanumeric(c) || c == '_'; };
  return !key.empty() && key.size() <= 64 && std::ranges::all_of(key, plain);
}

class Machine final {
 public:
  Machine(base::Bytes pickle, std::string_view subject) : stream_(pickle, subject) {}

  [[nodiscard]] std::vector<PickledTensor> run() {
    while (step(stream_.next_opcode())) {
    }
    if (stream_.rest_bytes() != 0) {
      stream_.refuse(std::to_string(stream_.rest_bytes()) + " bytes follow STOP");
    }
    // Values left below the result would have been made for nothing; no pickler leaves them.
    if (stack_.size() != 1 || !marks_.empty())
      stream_.refuse("STOP with more or less than one value on the stack");
    return to_tensors(value(stack_.back()));
  }

 private:
  /// Executes one opcode; false after STOP. The names are those of Python's pickletools.
  [[nodiscard]] bool step(std::uint8_t opcode) {
    if (stream_.at_start() && opcode != 0x80) stream_.refuse("not a pickle of protocol 2");
    switch (opcode) {
      case 0x80: protocol(); break;                                                 // PROTO
      case 'c': global(); break;                                                    // GLOBAL
      case 'N': push(None{}); break;                                                // NONE
      case 0x88: push(true); break;                                                 // NEWTRUE
      case 0x89: push(false); break;                                                // NEWFALSE
      case 'J': push(std::int64_t{stream_.number<std::int32_t>()}); break;          // BININT
      case 'K': push(std::int64_t{stream_.number<std::uint8_t>()}); break;          // BININT1
      case 'M': push(std::int64_t{stream_.number<std::uint16_t>()}); break;         // BININT2
      case 0x8a: push(stream_.long_number(stream_.number<std::uint8_t>())); break;  // LONG1
      case 'X': push(Text{stream_.text(stream_.number<std::uint32_t>())}); break;   // BINUNICODE
      case '(': mark(); break;                                                      // MARK
      case ')': push(Tuple{}); break;                                               // EMPTY_TUPLE
      case 't': push(Tuple{pop_to_mark()}); break;                                  // TUPLE
      case 0x85: push(Tuple{pop_many(1)}); break;                                   // TUPLE1
      case 0x86: push(Tuple{pop_many(2)}); break;                                   // TUPLE2
      case 0x87: push(Tuple{pop_many(3)}); break;                                   // TUPLE3
      case '}': push(Dict{}); break;                                                // EMPTY_DICT
      case 's': set_items(pop_many(2)); break;                                      // SETITEM
      case 'u': set_items(pop_to_mark()); break;                                    // SETITEMS
      case 'h': get(stream_.number<std::uint8_t>()); break;                         // BINGET
      case 'j': get(stream_.number<std::uint32_t>()); break;                        // LONG_BINGET
      case 'q': put(stream_.number<std::uint8_t>()); break;                         // BINPUT
      case 'r': put(stream_.number<std::uint32_t>()); break;                        // LONG_BINPUT
      case 'Q': persistent_id(); break;                                             // BINPERSID
      case 'R': reduce(); break;                                                    // REDUCE
      case 'b': build(); break;                                                     // BUILD
      case '.': return false;                                                       // STOP
      default: refuse_opcode(opcode);
    }
    return true;
  }

  [[noreturn]] void refuse_opcode(std::uint8_t opcode) const {
    const bool visible = opcode > 0x20 && opcode < 0x7F;
    stream_.refuse("opcode " + std::to_string(opcode) +
                   (visible ? " ('" + std::string(1, static_cast<char>(opcode)) + "')" : "") +
                   " does not occur in a plain state dict");
  }

  void protocol() {
    if (!stream_.at_start()) stream_.refuse("a second PROTO");
    const auto version = stream_.number<std::uint8_t>();
    if (version != 2) stream_.refuse("pickle protocol " + std::to_string(version) + ", expected 2");
  }

  void global() {
    const std::string_view module = stream_.line();
    const std::string_view name = stream_.line();
    const Global* found = find_plain_global(module, name);
    if (found == nullptr) {
      stream_.refuse("global " + quote(std::string(module) + " " + std::string(name)) +
                     " does not occur in a plain state dict");
    }
    push(found);
  }

  // The stack. Opcodes cannot reach below the last mark, as in Python.

  /// The reference is valid until the next push(), which may move all values.
  [[nodiscard]] Value& value(Ref ref) { return values_[ref]; }

  template <typename T>
  void push(T&& made) {
    if (values_.size() >= kValuesMax) stream_.refuse("more than " + std::to_string(kValuesMax) + " values");
    stack_.push_back(static_cast<Ref>(values_.size()));
    values_.emplace_back(std::forward<T>(made));
  }

  void mark() {
    if (marks_.size() >= kMarksMax) stream_.refuse("more than " + std::to_string(kMarksMax) + " open marks");
    marks_.push_back(stack_.size());
  }

  [[nodiscard]] std::vector<Ref> pop_from(std::size_t first) {
    std::vector<Ref> popped(stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
    stack_.resize(first);
    return popped;
  }

  [[nodiscard]] std::vector<Ref> pop_many(std::size_t count) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < count) stream_.refuse("the stack is empty");
    return pop_from(stack_.size() - count);
  }

  [[nodiscard]] std::vector<Ref> pop_to_mark() {
    if (marks_.empty()) stream_.refuse("no mark on the stack");
    const std::size_t first = std::exchange(marks_.back(), 0);
    marks_.pop_back();
    return pop_from(first);
  }

  [[nodiscard]] Ref pop() { return pop_many(1).front(); }

  [[nodiscard]] Ref top() {
    const Ref ref = pop();
    stack_.push_back(ref);
    return ref;
  }

  // The memo. Picklers number its entries without gaps, so any other index is refused.

  /// BINPUT names the value on top of the stack and leaves it there.
  void put(std::size_t index) {
    if (index != memo_.size()) {
      stream_.refuse("memo index " + std::to_string(index) + ", expected " + std::to_string(memo_.size()));
    }
    memo_.push_back(top());
  }

  void get(std::size_t index) {
    if (index >= memo_.size()) stream_.refuse("memo index " + std::to_string(index) + " is not set");
    // get() makes no new value, so push()'s limit does not cover it.
    if (stack_.size() >= kValuesMax) stream_.refuse("more than " + std::to_string(kValuesMax) + " values");
    stack_.push_back(memo_[index]);
  }

  void set_items(const std::vector<Ref>& items) {
    auto* dict = std::get_if<Dict>(&value(top()));
    if (dict == nullptr) stream_.refuse("items are set on " + std::string(kind_of(value(top()))));
    if (items.size() % 2 != 0) stream_.refuse("a dict key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const auto* key = std::get_if<Text>(&value(items[i]));
      if (key == nullptr)
        stream_.refuse("a dict key is " + std::string(kind_of(value(items[i]))) + ", expected a string");
      // Python would let the second value win; a reader that keeps the first would load another tensor.
      if (!dict->keys.insert(key->bytes).second) {
        stream_.refuse("key " + quote(key->bytes) + " occurs twice in one dict");
      }
      dict->members.emplace_back(key->bytes, items[i + 1]);
    }
  }

  /// ('storage', type, key, location, number of elements): what torch.save writes in place of a storage's
  /// bytes. The location ("cpu", "cuda:0") is where the tensor was, and does not matter here.
  void persistent_id() {
    const Ref id = pop();
    const auto* tuple = std::get_if<Tuple>(&value(id));
    if (tuple == nullptr || tuple->items.size() != 5) refuse_shape("a persistent id");
    const auto& items = tuple->items;
    const auto* kind = std::get_if<Text>(&value(items[0]));
    const auto* type = std::get_if<const Global*>(&value(items[1]));
    const auto* key = std::get_if<Text>(&value(items[2]));
    const auto* location = std::get_if<Text>(&value(items[3]));
    const auto elements = non_negative(items[4]);
    if (kind == nullptr || kind->bytes != "storage" || type == nullptr || (*type)->tag != Tag::storage ||
        key == nullptr || location == nullptr || !elements) {
      refuse_shape("a persistent id");
    }
    if (!is_storage_key(key->bytes))
      stream_.refuse("storage key " + quote(key->bytes) + " is not a plain name");
    push(Storage{.dtype = (*type)->dtype, .key = key->bytes, .elements = *elements});
  }

  /// A call is legal only for three tags of the allow-list, each with the arguments that torch writes, and
  /// gives a value of the variant: no code runs.
  void reduce() {
    const std::vector<Ref> call = pop_many(2);
    const auto* callee = std::get_if<const Global*>(&value(call[0]));
    const auto* arguments = std::get_if<Tuple>(&value(call[1]));
    if (callee == nullptr || arguments == nullptr) {
      stream_.refuse("a call of " + std::string(kind_of(value(call[0]))) + " with " +
                     std::string(kind_of(value(call[1]))));
    }
    switch ((*callee)->tag) {
      case Tag::ordered_dict:
        if (!arguments->items.empty()) refuse_shape("OrderedDict");
        push(Dict{.ordered = true, .members = {}, .keys = {}});
        break;
      case Tag::rebuild_tensor: push(rebuild_tensor(arguments->items)); break;
      case Tag::rebuild_parameter: stack_.push_back(rebuild_parameter(arguments->items)); break;
      case Tag::storage: stream_.refuse("a call of " + quote("torch " + std::string((*callee)->name)));
    }
  }

  /// (storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
  [[nodiscard]] Tensor rebuild_tensor(const std::vector<Ref>& items) {
    const bool counted = items.size() == 6 || (items.size() == 7 && is_nothing(items[6]));
    if (!counted || !std::holds_alternative<bool>(value(items[4])) || !is_nothing(items[5])) {
      refuse_shape("_rebuild_tensor_v2");
    }
    const auto* storage = std::get_if<Storage>(&value(items[0]));
    const auto offset = non_negative(items[1]);
    const auto shape = non_negative_tuple(items[2]);
    const auto strides = non_negative_tuple(items[3]);
    if (storage == nullptr || !offset || !shape || !strides || shape->size() != strides->size()) {
      refuse_shape("_rebuild_tensor_v2");
    }
    return Tensor{.storage = *storage, .offset_elements = *offset, .shape = *shape, .strides = *strides};
  }

  /// (tensor, requires_grad, backward_hooks): a parameter is its tensor.
  [[nodiscard]] Ref rebuild_parameter(const std::vector<Ref>& items) {
    if (items.size() != 3 || !std::holds_alternative<Tensor>(value(items[0])) ||
        !std::holds_alternative<bool>(value(items[1])) || !is_nothing(items[2])) {
      refuse_shape("_rebuild_parameter");
    }
    return items[0];
  }

  /// Attributes of an OrderedDict: a module's state dict carries `_metadata` (versions of its modules), which
  /// affects no tensor and is dropped.
  void build() {
    const Ref state = pop();
    const auto* attributes = std::get_if<Dict>(&value(state));
    const auto* target = std::get_if<Dict>(&value(top()));
    if (attributes == nullptr || target == nullptr || !target->ordered || attributes->members.size() != 1 ||
        attributes->members.front().first != "_metadata") {
      stream_.refuse("BUILD sets something else than the _metadata of an OrderedDict");
    }
  }

  /// None, or an empty dict: torch writes an empty OrderedDict for backward hooks.
  [[nodiscard]] bool is_nothing(Ref ref) {
    const auto* dict = std::get_if<Dict>(&value(ref));
    return std::holds_alternative<None>(value(ref)) || (dict != nullptr && dict->members.empty());
  }

  [[nodiscard]] std::optional<std::uint64_t> non_negative(Ref ref) {
    const auto* number = std::get_if<std::int64_t>(&value(ref));
    if (number == nullptr || *number < 0) return std::nullopt;
    return static_cast<std::uint64_t>(*number);
  }

  [[nodiscard]] std::optional<std::vector<std::uint64_t>> non_negative_tuple(Ref ref) {
    const auto* tuple = std::get_if<Tuple>(&value(ref));
    if (tuple == nullptr || tuple->items.size() > kRankMax) return std::nullopt;
    std::vector<std::uint64_t> numbers;
    for (const Ref item : tuple->items) {
      const auto number = non_negative(item);
      if (!number) return std::nullopt;
      numbers.push_back(*number);
    }
    return numbers;
  }

  [[noreturn]] void refuse_shape(std::string_view what) const {
    stream_.refuse(std::string(what) + " with arguments of another number, kind or sign than torch writes");
  }

  /// The root must be a dict of tensors; its first other entry is refused by its key.
  [[nodiscard]] std::vector<PickledTensor> to_tensors(const Value& root) {
    const auto* dict = std::get_if<Dict>(&root);
    if (dict == nullptr)
      stream_.refuse("the pickle holds " + std::string(kind_of(root)) + ", expected a dict of tensors");
    std::vector<PickledTensor> tensors;
    for (const auto& [name, ref] : dict->members) {
      const auto* tensor = std::get_if<Tensor>(&value(ref));
      if (tensor == nullptr) {
        stream_.refuse("entry " + quote(name) + " is " + std::string(kind_of(value(ref))) +
                       ", expected a tensor: only a plain state dict can be read");
      }
      tensors.push_back(PickledTensor{.name = std::string(name),
                                      .dtype = tensor->storage.dtype,
                                      .storage_key = std::string(tensor->storage.key),
                                      .storage_elements = tensor->storage.elements,
                                      .offset_elements = tensor->offset_elements,
                                      .shape = tensor->shape,
                                      .strides = tensor->strides});
    }
    return tensors;
  }

  PickleStream stream_;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;
  std::vector<Ref> memo_;
};

}  // namespace

std::vector<PickledTensor> read_state_dict(base::Bytes pickle, std::string_view subject) {
  return Machine(pickle, subject).run();
}

}  // namespace sluice::format
