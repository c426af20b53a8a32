# frozen_string_literal: true

require 'json'

# A hash as a TOML file. JSON's strings, numbers, lists and booleans are TOML's, too.
Puppet::Functions.create_function(:'mediaconnect::to_toml') do
  dispatch :to_toml do
    param 'Hash', :content
    return_type 'String'
  end

  def to_toml(content)
    tables, values = content.partition { |_, value| value.is_a?(Hash) }
    parts = [['# Kept by Puppet.'] + lines(values)]
    parts += tables.map { |name, table| ["[#{key(name)}]"] + lines(table) }
    parts.map { |part| part.join("\n") }.join("\n\n") + "\n"
  end

  def lines(pairs)
    pairs.map { |name, value| "#{key(name)} = #{inline(value)}" }
  end

  def key(name)
    name.match?(/\A[A-Za-z0-9_-]+\z/) ? name : JSON.generate(name)
  end

  def inline(value)
    case value
    when Hash then "{ #{lines(value).join(', ')} }"
    when Array then "[#{value.map { |inner| inline(inner) }.join(', ')}]"
    else JSON.generate(value)
    end
  end
end
