#pragma once
// The values that a template computes with: Python's, as Jinja sees them. Values do not change after they are
// made, but for namespaces, the state of loops and whether a generator was read. Not thread-safe: a value
// belongs to one rendering, but for the constants of a template, which are only read.

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/text.h"
#include "text/values/budget.h"

namespace sluice::text::jinja {

class Value;
struct Loop;
struct Macro;

using Values = std::vector<Value>;

struct String {
  MarkedText marked;
  bool safe = false;  ///< made by the filter `safe`: `+` escapes HTML in what is added to it
};

/// Everything that can be iterated over and is no text and no mapping.
enum class SequenceKind : std::uint8_t {
  list,
  tuple,
  range,
  keys,  ///< views of a mapping have a length, and no element has a number
  values,
  items,
  generator,  ///< the result of map, select and others: it can be read once, and has no length
};

struct Sequence;
struct Mapping;
struct Namespace;

enum class Function : std::uint8_t { namespace_, raise_exception, strftime_now, range, dict };

/// A method of a text, list or mapping that has not been called yet.
struct Method;

/// A value that is not there, and why.
struct Undefined {
  std::shared_ptr<const std::string> reason;  ///< "'x' is undefined"
};

class Value {
 public:
  using StringPointer = std::shared_ptr<const String>;
  using SequencePointer = std::shared_ptr<const Sequence>;
  using MappingPointer = std::shared_ptr<const Mapping>;

  Value() = default;  ///< none
  // No conversion: every pointer would become a truth value.
  template <std::same_as<bool> T>
  Value(T value) : value_(value) {}
  Value(std::int64_t value) : value_(value) {}
  Value(double value) : value_(value) {}
  Value(Undefined value) : value_(std::move(value)) {}
  Value(StringPointer value) : value_(std::move(value)) {}
  Value(SequencePointer value) : value_(std::move(value)) {}
  Value(MappingPointer value) : value_(std::move(value)) {}
  Value(Namespace* value) : value_(value) {}
  Value(const Macro* value) : value_(value) {}
  Value(std::shared_ptr<Loop> value) : value_(std::move(value)) {}
  Value(std::shared_ptr<const Method> value) : value_(std::move(value)) {}
  Value(Function value) : value_(value) {}

  [[nodiscard]] bool is_none() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(value_); }
  [[nodiscard]] bool is_true() const { return is_bool() && std::get<bool>(value_); }
  [[nodiscard]] bool is_int() const { return std::holds_alternative<std::int64_t>(value_); }
  [[nodiscard]] bool is_float() const { return std::holds_alternative<double>(value_); }
  /// Python's bool is a number, too.
  [[nodiscard]] bool is_integral() const { return is_int() || is_bool(); }
  [[nodiscard]] bool is_number() const { return is_integral() || is_float(); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<StringPointer>(value_); }
  [[nodiscard]] bool is_callable() const;

  // The typed value; the kind was asked before.
  [[nodiscard]] std::int64_t integer() const;  ///< of an integral number
  [[nodiscard]] double number() const;         ///< of any number
  [[nodiscard]] const MarkedText& marked() const { return std::get<StringPointer>(value_)->marked; }
  [[nodiscard]] const std::string& text() const { return marked().text; }
  [[nodiscard]] bool is_safe() const { return is_string() && std::get<StringPointer>(value_)->safe; }
  [[nodiscard]] const std::string& undefined_reason() const { return *std::get<Undefined>(value_).reason; }

  // nullptr when the value is of another kind.
  [[nodiscard]] const Sequence* sequence() const { return pointee<SequencePointer>(); }
  [[nodiscard]] const Mapping* mapping() const { return pointee<MappingPointer>(); }
  [[nodiscard]] Namespace* name_space() const { return pointee<Namespace*>(); }
  [[nodiscard]] const Macro* macro() const { return pointee<const Macro*>(); }
  [[nodiscard]] Loop* loop() const { return pointee<std::shared_ptr<Loop>>(); }
  [[nodiscard]] const Method* method() const { return pointee<std::shared_ptr<const Method>>(); }
  [[nodiscard]] const Function* function() const { return std::get_if<Function>(&value_); }

  /// As Python's errors call the kind: "str", "NoneType".
  [[nodiscard]] std::string_view type_name() const;
  /// Levels of lists and mappings within this value.
  [[nodiscard]] int depth() const;

 private:
  template <typename Pointer>
  [[nodiscard]] auto pointee() const -> decltype(&*std::declval<Pointer>()) {
    const auto* pointer = std::get_if<Pointer>(&value_);
    return pointer == nullptr ? nullptr : &**pointer;
  }

  std::variant<std::monostate, Undefined, bool, std::int64_t, double, StringPointer, SequencePointer,
               MappingPointer, Namespace*, const Macro*, std::shared_ptr<Loop>, std::shared_ptr<const Method>,
               Function>
      value_;
};

struct Sequence {
  SequenceKind kind = SequenceKind::list;
  Values items;
  std::int64_t range_begin = 0;  ///< of a range, which is printed with its bounds
  std::int64_t range_end = 0;
  std::int64_t range_step = 1;
  int depth = 1;
  mutable bool consumed = false;  ///< of a generator

  [[nodiscard]] bool has_length() const { return kind != SequenceKind::generator; }
  [[nodiscard]] bool has_subscripts() const {
    return kind == SequenceKind::list || kind == SequenceKind::tuple || kind == SequenceKind::range;
  }
};

struct Mapping {
  std::vector<std::pair<Value, Value>> members;  ///< in the order in which the keys were set
  int depth = 1;
};

/// namespace(): the one value whose attributes a template may set. It lives as long as the rendering.
struct Namespace {
  std::vector<std::pair<std::string, Value>> members;

  [[nodiscard]] Value* find(std::string_view name);
};

struct Method {
  Value self;
  std::string name;
};

[[nodiscard]] Value make_string(Budget& budget, MarkedText text, bool safe = false);
/// Text that the template did not write.
[[nodiscard]] Value make_string(Budget& budget, std::string text);
[[nodiscard]] Value make_sequence(Budget& budget, Values items, SequenceKind kind = SequenceKind::list);
[[nodiscard]] Value make_undefined(std::string reason);

/// Makes a mapping. A later member of the same key replaces the value of an earlier one.
class MappingBuilder {
 public:
  explicit MappingBuilder(Budget& budget) : budget_(budget) {}
  void set(Value key, Value value);
  [[nodiscard]] std::size_t size() const { return mapping_->members.size(); }
  /// For keys that are known to be new.
  void add(Value key, Value value);
  [[nodiscard]] Value take();

 private:
  Budget& budget_;
  std::shared_ptr<Mapping> mapping_ = std::make_shared<Mapping>();
};

/// The value of a key; nullptr when there is none. A Fault for keys that Python cannot hash.
[[nodiscard]] const Value* find(Budget& budget, const Mapping& mapping, const Value& key);

[[nodiscard]] bool truth(const Value& value);
/// Python's ==; marks do not count.
[[nodiscard]] bool equal(Budget& budget, const Value& left, const Value& right);
/// The order of two numbers, texts, lists or tuples; a Fault for others, naming `operation`.
[[nodiscard]] std::partial_ordering compare(Budget& budget, const Value& left, const Value& right,
                                            std::string_view operation);
/// Python's `in`.
[[nodiscard]] bool contains(Budget& budget, const Value& container, const Value& item);
/// The elements of a value that can be iterated over; a Fault for others.
[[nodiscard]] Values elements(Budget& budget, const Value& value);
/// len(); a Fault for values without a length.
[[nodiscard]] std::int64_t length(Budget& budget, const Value& value);

}  // namespace sluice::text::jinja
