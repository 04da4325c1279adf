// A description as JSON and back: two archives over the list of fields in model_fields.h. What was read is
// compared with what would be written, so that each description has one text only; a container's directory
// relies on that when it looks for where it begins.
//
// The members of Writer and Reader are those that model_fields.h lists for an archive, with the same meaning;
// a new field needs no change here. Bounds are parameters of the archives that only the check of bounds uses.
// Everything runs on the caller's thread.

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "format/model_fields.h"

namespace sluice::format {
namespace {

/// Leaves out neutral values, so that a field which is added later does not change the text of existing
/// models.
class Writer final {
 public:
  template <typename T>
  using Ref = const T&;

  [[nodiscard]] Json take() { return std::move(json_); }

  void count(const char* key, std::uint64_t value, std::uint64_t) { json_.set(key, value); }
  void count(const char* key, const std::optional<std::uint64_t>& value, std::uint64_t) {
    if (value) json_.set(key, *value);
  }
  void flag(const char* key, bool value) { flag_or(key, value, false); }
  void flag_or(const char* key, bool value, bool neutral) {
    if (value != neutral) json_.set(key, value);
  }
  void number(const char* key, double value, double, double) { json_.set(key, value); }
  void number(const char* key, const std::optional<double>& value, double, double) {
    if (value) json_.set(key, *value);
  }
  void number_or(const char* key, double value, double neutral, double, double) {
    if (value != neutral) json_.set(key, value);
  }
  template <typename Enum, std::size_t N>
  void choice(const char* key, Enum value, const std::array<std::string_view, N>& names) {
    if (value != Enum{}) written_choice(key, value, names);
  }
  template <typename Enum, std::size_t N>
  void written_choice(const char* key, Enum value, const std::array<std::string_view, N>& names) {
    json_.set(key, names[static_cast<std::size_t>(value)]);
  }
  template <typename T>
  void object(const char* key, const T& value) {
    json_.set(key, json_of(value));
  }
  template <typename T>
  void object(const char* key, const std::optional<T>& value) {
    if (value) object(key, *value);
  }
  template <typename... Ts, std::size_t N>
  void one_of(const char* key, const std::variant<Ts...>& value, const std::array<std::string_view, N>& names,
              FirstIs first) {
    static_assert(sizeof...(Ts) == N);
    if (value.index() == 0 && first == FirstIs::neutral) return;
    Writer inner;
    inner.json_.set("kind", names[value.index()]);
    std::visit([&](const auto& alternative) { fields(inner, alternative); }, value);
    json_.set(key, inner.take());
  }
  void kinds(const char* key, const std::vector<LayerDescription>& values) {
    Json list = Json::array();
    for (const LayerDescription& value : values) list.push_back(json_of(value));
    json_.set(key, std::move(list));
  }
  void indices(const char* key, const std::vector<std::uint32_t>& values) {
    json_.set(key, Json::array_of(values));
  }

  template <typename T>
  [[nodiscard]] static Json json_of(const T& value) {
    Writer writer;
    fields(writer, value);
    return writer.take();
  }

 private:
  Json json_ = Json::object();
};

/// Reads an object. It checks types only; the bounds are checked by validate() afterwards, with the same
/// messages as for a description that was not read from JSON.
class Reader final {
 public:
  template <typename T>
  using Ref = T&;

  Reader(const Json& json, std::string subject) : json_(json), subject_(std::move(subject)) {
    static_cast<void>(json_.as_object(subject_));
  }

  /// After all fields: refuses the members that none of them has asked for.
  void refuse_others() const {
    for (const auto& [key, value] : json_.as_object(subject_))
      if (std::ranges::find(known_, key) == known_.end())
        base::throw_malformed(subject_, "unknown key '" + key + "'");
  }

  void count(const char* key, std::uint64_t& value, std::uint64_t) {
    value = at(key).as_uint(place_of(subject_, key));
  }
  void count(const char* key, std::optional<std::uint64_t>& value, std::uint64_t) {
    if (const Json* found = find(key)) value = found->as_uint(place_of(subject_, key));
  }
  void flag(const char* key, bool& value) { flag_or(key, value, false); }
  void flag_or(const char* key, bool& value, bool neutral) {
    const Json* found = find(key);
    value = found != nullptr ? found->as_bool(place_of(subject_, key)) : neutral;
  }
  void number(const char* key, double& value, double, double) {
    value = at(key).as_double(place_of(subject_, key));
  }
  void number(const char* key, std::optional<double>& value, double, double) {
    if (const Json* found = find(key)) value = found->as_double(place_of(subject_, key));
  }
  void number_or(const char* key, double& value, double neutral, double, double) {
    const Json* found = find(key);
    value = found != nullptr ? found->as_double(place_of(subject_, key)) : neutral;
  }
  template <typename Enum, std::size_t N>
  void choice(const char* key, Enum& value, const std::array<std::string_view, N>& names) {
    if (find(key) != nullptr) written_choice(key, value, names);
  }
  template <typename Enum, std::size_t N>
  void written_choice(const char* key, Enum& value, const std::array<std::string_view, N>& names) {
    value = static_cast<Enum>(index_of(at(key), place_of(subject_, key), names));
  }
  template <typename T>
  void object(const char* key, T& value) {
    read(at(key), place_of(subject_, key), value);
  }
  template <typename T>
  void object(const char* key, std::optional<T>& value) {
    if (const Json* found = find(key)) read(*found, place_of(subject_, key), value.emplace());
  }
  template <typename... Ts, std::size_t N>
  void one_of(const char* key, std::variant<Ts...>& value, const std::array<std::string_view, N>& names,
              FirstIs first) {
    if (find(key) == nullptr && first == FirstIs::neutral) return;
    Reader inner(at(key), place_of(subject_, key));
    const std::string place = place_of(inner.subject_, "kind");
    // "kind" is not among the fields of the alternatives; it chooses whose fields are read.
    set_alternative(value, index_of(inner.at("kind"), place, names));
    std::visit([&](auto& alternative) { fields(inner, alternative); }, value);
    inner.refuse_others();
  }
  void kinds(const char* key, std::vector<LayerDescription>& values) {
    const auto& list = at(key).as_array(place_of(subject_, key));
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string name = std::string(key) + "[" + std::to_string(i) + "]";
      read(list[i], place_of(subject_, name), values.emplace_back());
    }
  }
  void indices(const char* key, std::vector<std::uint32_t>& values) {
    const std::string place = place_of(subject_, key);
    for (const Json& item : at(key).as_array(place)) {
      const std::uint64_t index = item.as_uint(place);
      constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
      values.push_back(static_cast<std::uint32_t>(std::min(index, kMax)));  // too large either way
    }
  }

  template <typename T>
  static void read(const Json& json, std::string subject, T& value) {
    Reader reader(json, std::move(subject));
    fields(reader, value);
    reader.refuse_others();
  }

 private:
  // Every key that is asked for is noted, also when it is missing: refuse_others() refuses all others.
  [[nodiscard]] const Json* find(const char* key) {
    known_.emplace_back(key);
    return json_.find(key);
  }
  [[nodiscard]] const Json& at(const char* key) {
    known_.emplace_back(key);
    return json_.at(key, subject_);
  }

  template <std::size_t N>
  [[nodiscard]] static std::size_t index_of(const Json& name, std::string_view place,
                                            const std::array<std::string_view, N>& names) {
    const auto found = std::ranges::find(names, std::string_view(name.as_string(place)));
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    std::string expected;
    for (const std::string_view one : names) expected += (expected.empty() ? "" : ", ") + std::string(one);
    base::throw_malformed(place, "expected one of " + expected + "; found " + name.dump().substr(0, 60));
  }

  template <std::size_t I = 0, typename... Ts>
  /// Gives the variant its alternative number `index`, which is known at run time only.
  static void set_alternative(std::variant<Ts...>& value, std::size_t index) {
    if constexpr (I < sizeof...(Ts)) {
      if (I == index) {
        value.template emplace<I>();
      } else {
        set_alternative<I + 1>(value, index);
      }
    }
  }

  const Json& json_;
  std::string subject_;
  std::vector<std::string_view> known_;
};

}  // namespace

Json to_json(const ModelDescription& description) { return Writer::json_of(description); }

ModelDescription description_from_json(const Json& json, std::string_view subject) {
  ModelDescription description;
  Reader::read(json, std::string(subject), description);
  validate(description, subject);
  // Objects compare with the order of their keys, so this covers order, neutral values and spellings at once.
  if (to_json(description) != json) {
    base::throw_malformed(
        subject, "is not in canonical form: keys are in another order, or neutral values are written");
  }
  return description;
}

}  // namespace sluice::format
